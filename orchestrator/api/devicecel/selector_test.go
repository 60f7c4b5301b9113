package devicecel

import (
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func ptr[T any](v T) *T { return &v }

func h100() *Device {
	return NewDevice("gpu.nvidia.com", &resourcev1.Device{Name: "gpu-0",
		Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{
			"productName":                     {StringValue: ptr("NVIDIA H100 80GB HBM3")},
			"cudaComputeCapability":           {VersionValue: ptr("9.0.0")},
			"driverVersion":                   {VersionValue: ptr("580.159.4-rc.1+build")},
			"slot":                            {IntValue: ptr(int64(3))},
			"ecc":                             {BoolValue: ptr(true)},
			"resource.kubernetes.io/pcieRoot": {StringValue: ptr("pci0000:01")},
		},
		Capacity: map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse("80Gi")}},
	})
}

// The examples of the API's documentation, of NVIDIA's driver and of the pages on CEL in Kubernetes.
func TestDocumentedExpressionsSelect(t *testing.T) {
	for expression, want := range map[string]bool{
		`device.driver == "gpu.nvidia.com"`: true,
		`device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].productName.lowerAscii().matches('^.*h100.*$')`: true,
		`device.attributes["gpu.nvidia.com"].productName.startsWith("NVIDIA A100")`:                                               false,
		`device.attributes["resource.kubernetes.io"].pcieRoot == "pci0000:01"`:                                                    true,
		`device.attributes["gpu.nvidia.com"].slot > 2 && device.attributes["gpu.nvidia.com"].ecc`:                                 true,
		`device.attributes["gpu.nvidia.com"].slot in [1, 2]`:                                                                      false,
		`device.capacity["gpu.nvidia.com"].memory.compareTo(quantity("40Gi")) >= 0`:                                               true,
		`device.capacity["gpu.nvidia.com"].memory.isGreaterThan(quantity("80Gi"))`:                                                false,
		`device.capacity["gpu.nvidia.com"].memory.sub(quantity("1Gi")).isLessThan(quantity("80Gi"))`:                              true,
		`device.capacity["gpu.nvidia.com"].memory == quantity("81920Mi")`:                                                         true,
		`device.capacity["gpu.nvidia.com"].memory.asInteger() == 85899345920`:                                                     true,
		`quantity("1.5").isInteger()`:                                                                       false,
		`isQuantity("1.3Gi") && !isQuantity("200K")`:                                                        true,
		`quantity("50k").add(20).sign() == 1`:                                                               true,
		`device.attributes["gpu.nvidia.com"].cudaComputeCapability.compareTo(semver("8.0.0")) > 0`:          true,
		`device.attributes["gpu.nvidia.com"].cudaComputeCapability.isLessThan(semver("9.0.1"))`:             true,
		`device.attributes["gpu.nvidia.com"].driverVersion.major() == 580`:                                  true,
		`device.attributes["gpu.nvidia.com"].driverVersion.isLessThan(semver("580.159.4"))`:                 true,
		`semver("v1.02", true) == semver("1.2.0") && isSemver("v1.0", true) && !isSemver("v1.0")`:           true,
		`semver("1.0.0-alpha.2").isLessThan(semver("1.0.0-alpha.10"))`:                                      true,
		`has(device.attributes["gpu.nvidia.com"].ecc) && !has(device.attributes["gpu.nvidia.com"].nothing)`: true,
		`has(device.attributes["other.example.com"].ecc)`:                                                   false, // an unknown domain is an empty map
		`"other.example.com" in device.attributes`:                                                          false,
		`device.attributes["gpu.nvidia.com"].?nothing.orValue("x") == "x"`:                                  true,
		`device.attributes[?"other"].?nothing.orValue("x") == "x"`:                                          true,
		`cel.bind(dra, device.attributes["gpu.nvidia.com"], dra.ecc && dra.slot == 3)`:                      true,
		`device.allowMultipleAllocations`:                                                                   false,
		`sets.contains([1, 2, 3], [2])`:                                                                     true,
	} {
		s, err := Compile(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got, err := s.Matches(h100()); err != nil || got != want {
			t.Errorf("%s: %t, %v", expression, got, err)
		}
	}
}

func TestAnExpressionThatCannotWorkIsRefused(t *testing.T) {
	for expression, why := range map[string]string{
		`device.driver`:                               "must evaluate to bool",
		`device.drivers == "x"`:                       "undefined field",
		`device.driver == `:                           "Syntax error",
		`device.capacity["a"].memory + 1 > 0`:         "no matching overload",
		`node.name == "x"`:                            "undeclared reference",
		`"` + strings.Repeat("x", 10<<10) + `" == ""`: "at most 10240 bytes",
	} {
		if _, err := Compile(expression); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %v, want %q", expression, err, why)
		}
	}
}

func TestAnExpressionThatFailsIsAnError(t *testing.T) {
	list := "[" + strings.Repeat("1,", 400) + "1]"
	for expression, why := range map[string]string{
		`device.attributes["gpu.nvidia.com"].nothing == "x"`:                         "no such key: nothing",
		`device.attributes["gpu.nvidia.com"].slot`:                                   "not bool",
		`device.attributes["gpu.nvidia.com"].slot.lowerAscii() == "x"`:               "no such overload",
		`quantity("x") == quantity("1")`:                                             "quantities must match",
		`semver("1") == semver("1.0.0")`:                                             "no semantic version",
		`1 / (device.attributes["gpu.nvidia.com"].slot - 3) == 1`:                    "division by zero",
		list + `.all(a, ` + list + `.all(b, ` + list + `.all(c, a == b && b == c)))`: "cost",
	} {
		s, err := Compile(expression)
		if err != nil {
			t.Errorf("%.60s: %v", expression, err)
			continue
		}
		if _, err := s.Matches(h100()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %v, want %q", expression, err, why)
		}
	}
}

func TestAnExpressionIsCompiledOnce(t *testing.T) {
	var c Cache
	a, err := c.Selector(`device.driver == "a"`)
	b, _ := c.Selector(`device.driver == "a"`)
	if err != nil || a != b {
		t.Errorf("%p %p %v", a, b, err)
	}
	for range 2 {
		if _, err := c.Selector(`device`); err == nil {
			t.Error("accepted")
		}
	}
}

func TestVersionsAreInTheOrderOfTheSpecification(t *testing.T) {
	order := []string{"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0", "2.0.0"}
	for i := range order {
		for j := range order {
			a, err := ParseSemver(order[i], false)
			b, err2 := ParseSemver(order[j], false)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			if got := a.Compare(b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s, %s: %d", order[i], order[j], got)
			}
		}
	}
	for _, bad := range []string{"", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.03", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.x", "1.2.3-a_b", "99999999999999999999.0.0"} {
		if _, err := ParseSemver(bad, false); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`device.attributes["a"].b == semver("1.0.0")`)
	f.Fuzz(func(t *testing.T, expression string) {
		if s, err := Compile(expression); err == nil {
			_, _ = s.Matches(h100())
		}
	})
}
