package devicecel

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	resourcev1 "k8s.io/api/resource/v1"
)

// Device is one device as expressions see it. Make it once with NewDevice; it never changes.
type Device struct {
	driver               string
	attributes, capacity ref.Val
	multiple             bool
}

// NewDevice makes the variable "device" of a device of the driver. Attributes and capacities without a domain are in
// the driver's. An attribute that has no value of a known type is left out.
func NewDevice(driver string, d *resourcev1.Device) *Device {
	attributes, capacity := map[string]map[ref.Val]ref.Val{}, map[string]map[ref.Val]ref.Val{}
	put := func(into map[string]map[ref.Val]ref.Val, name resourcev1.QualifiedName, v ref.Val) {
		domain, id := Split(driver, name)
		if into[domain] == nil {
			into[domain] = map[ref.Val]ref.Val{}
		}
		into[domain][types.String(id)] = v
	}
	for name, a := range d.Attributes {
		switch {
		case a.IntValue != nil:
			put(attributes, name, types.Int(*a.IntValue))
		case a.BoolValue != nil:
			put(attributes, name, types.Bool(*a.BoolValue))
		case a.StringValue != nil:
			put(attributes, name, types.String(*a.StringValue))
		case a.VersionValue != nil:
			if v, err := ParseSemver(*a.VersionValue, false); err == nil {
				put(attributes, name, v)
			}
		}
	}
	for name, c := range d.Capacity {
		put(capacity, name, Quantity{c.Value})
	}
	return &Device{driver: driver, attributes: byDomain(attributes), capacity: byDomain(capacity),
		multiple: d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations}
}

// Split is the domain and the identifier of a name of a driver's device.
func Split(driver string, name resourcev1.QualifiedName) (domain, id string) {
	if domain, id, ok := strings.Cut(string(name), "/"); ok {
		return domain, id
	}
	return driver, string(name)
}

// byDomain answers an unknown domain with an empty map.
func byDomain(all map[string]map[ref.Val]ref.Val) ref.Val {
	out := map[ref.Val]ref.Val{}
	for domain, values := range all {
		out[types.String(domain)] = types.NewRefValMap(types.DefaultTypeAdapter, values)
	}
	return defaultMap{types.NewRefValMap(types.DefaultTypeAdapter, out), types.NewRefValMap(types.DefaultTypeAdapter, map[ref.Val]ref.Val{})}
}

type defaultMap struct {
	traits.Mapper
	otherwise ref.Val
}

// Find implements traits.Mapper.
func (m defaultMap) Find(key ref.Val) (ref.Val, bool) {
	if v, ok := m.Mapper.Find(key); ok {
		return v, true
	}
	return m.otherwise, true
}

// Get implements traits.Indexer.
func (m defaultMap) Get(key ref.Val) ref.Val {
	v, _ := m.Find(key)
	return v
}

const deviceTypeName = "kubernetes.DRADevice"

func deviceType() *cel.Type { return cel.ObjectType(deviceTypeName) }

// object is the value of the variable "device".
type object struct{ *Device }

func (o object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a device is no %v", t)
}
func (o object) ConvertToType(t ref.Type) ref.Val {
	if t.TypeName() == types.TypeType.TypeName() {
		return deviceType()
	}
	return types.NewErr("a device is no %s", t.TypeName())
}
func (o object) Equal(other ref.Val) ref.Val {
	p, ok := other.(object)
	return types.Bool(ok && p.Device == o.Device)
}
func (o object) Type() ref.Type { return deviceType() }
func (o object) Value() any     { return o.Device }

// provider adds the fields of a device to the types that CEL knows, so that a field that no device has is an error of
// the expression, and not of each device.
type provider struct{ types.Provider }

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	if name == deviceTypeName {
		return types.NewTypeTypeWithParam(deviceType()), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if name == deviceTypeName {
		return []string{"driver", "attributes", "capacity", "allowMultipleAllocations"}, true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name != deviceTypeName {
		return p.Provider.FindStructFieldType(name, field)
	}
	var kind *types.Type
	var get func(*Device) ref.Val
	switch field {
	case "driver":
		kind, get = types.StringType, func(d *Device) ref.Val { return types.String(d.driver) }
	case "attributes":
		kind, get = types.NewMapType(types.StringType, types.NewMapType(types.StringType, types.DynType)), func(d *Device) ref.Val { return d.attributes }
	case "capacity":
		kind, get = types.NewMapType(types.StringType, types.NewMapType(types.StringType, quantityType())), func(d *Device) ref.Val { return d.capacity }
	case "allowMultipleAllocations":
		kind, get = types.BoolType, func(d *Device) ref.Val { return types.Bool(d.multiple) }
	default:
		return nil, false
	}
	return &types.FieldType{Type: kind, IsSet: func(target any) bool { _, ok := target.(*Device); return ok },
		GetFrom: func(target any) (any, error) {
			d, ok := target.(*Device)
			if !ok {
				return nil, errors.New("not a device")
			}
			return get(d), nil
		}}, true
}
