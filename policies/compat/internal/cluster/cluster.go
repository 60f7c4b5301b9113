// Package cluster is what the adapters for foreign policy modules share: reading cluster objects through the function
// that the embedding program gives, within what a policy is granted.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Lookup reads cluster objects as JSON: "group/version/resource/namespace/name" is one object, an empty name the list
// of them ({"items":[…]}) in a namespace or, with that empty too, in the whole cluster. No object is no bytes and no
// error. It is policies.Config's.
type Lookup = func(ctx context.Context, name string) ([]byte, error)

// ErrNoLookup: the embedding program gave no Lookup.
var ErrNoLookup = errors.New("this host gives policies no access to cluster objects: set Config.Lookup")

// Denied is the refusal of a kind that the policy object doesn't grant.
type Denied struct{ Resource Resource }

func (d *Denied) Error() string {
	return fmt.Sprintf("policy has not been granted access to Kubernetes %s/%s resources: add the capability %q to the policy object",
		d.Resource.APIVersion(), d.Resource.Kind, d.Resource.Capability())
}

// Reader reads for one policy.
type Reader struct {
	Lookup       Lookup
	Kinds        func(apiVersion, kind string) (Resource, bool) // beside the well-known ones; nil: none
	Capabilities []string
}

// Resource finds the resource that has this kind.
func (r *Reader) Resource(apiVersion, kind string) Resource {
	if r.Kinds != nil {
		if found, ok := r.Kinds(apiVersion, kind); ok {
			return found
		}
	}
	return ByKind(apiVersion, kind)
}

// Granted is every resource that the policy may read, in the order of its capabilities.
func (r *Reader) Granted() []Resource {
	var out []Resource
	for _, c := range r.Capabilities {
		if name, ok := strings.CutPrefix(c, "read:"); ok {
			group, resource, _ := strings.Cut(name, "/")
			out = append(out, ByResource(group, resource))
		}
	}
	return out
}

// Get returns one object as JSON; nil: there is none.
func (r *Reader) Get(ctx context.Context, res Resource, namespace, name string) ([]byte, error) {
	if name == "" {
		return nil, errors.New("a name is needed")
	}
	return r.lookup(ctx, res, namespace, name)
}

func (r *Reader) lookup(ctx context.Context, res Resource, namespace, name string) ([]byte, error) {
	if !slices.Contains(r.Capabilities, res.Capability()) {
		return nil, &Denied{res}
	}
	if r.Lookup == nil {
		return nil, ErrNoLookup
	}
	for _, part := range []string{namespace, name} {
		if strings.Contains(part, "/") {
			return nil, fmt.Errorf("%q is no name", part)
		}
	}
	return r.Lookup(ctx, strings.Join([]string{res.Group, res.Version, res.Resource, namespace, name}, "/"))
}

// Selection narrows a list.
type Selection struct{ Namespace, Labels, Fields string }

// Item is one object of a list.
type Item struct {
	Name, Namespace string
	Labels          map[string]string
	Object          map[string]any
}

// List returns the objects that s selects, each with its apiVersion and kind, and without managedFields.
func (r *Reader) List(ctx context.Context, res Resource, s Selection) ([]Item, error) {
	labels, err := ParseLabels(s.Labels)
	if err != nil {
		return nil, err
	}
	fields, err := parseFields(s.Fields)
	if err != nil {
		return nil, err
	}
	b, err := r.lookup(ctx, res, s.Namespace, "")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []map[string]any }
	if len(b) > 0 {
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.UseNumber()
		if err := d.Decode(&list); err != nil {
			return nil, fmt.Errorf("list %s: %w", res.Resource, err)
		}
	}
	items := []Item{}
	for _, object := range list.Items {
		item := newItem(object)
		if !labels.Matches(item.Labels) || !fields.match(object) {
			continue
		}
		if _, ok := object["apiVersion"]; !ok {
			object["apiVersion"] = res.APIVersion()
		}
		if _, ok := object["kind"]; !ok {
			object["kind"] = res.Kind
		}
		items = append(items, item)
	}
	return items, nil
}

func newItem(object map[string]any) Item {
	item := Item{Object: object}
	meta, _ := object["metadata"].(map[string]any)
	delete(meta, "managedFields")
	item.Name, _ = meta["name"].(string)
	item.Namespace, _ = meta["namespace"].(string)
	labels, _ := meta["labels"].(map[string]any)
	item.Labels = make(map[string]string, len(labels))
	for k, v := range labels {
		item.Labels[k], _ = v.(string)
	}
	return item
}
