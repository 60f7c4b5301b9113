package opa

import (
	"context"
	"encoding/json"

	"github.com/pintle/pintle/policies/compat/internal/cluster"
)

// inventory is the module's data with the cluster objects that the policy may read, as Gatekeeper and kube-mgmt lay
// them out:
//
//	Gatekeeper: data.inventory.cluster[apiVersion][kind][name], data.inventory.namespace[namespace][apiVersion][kind][name]
//	Review:     data.kubernetes[resource][name], data.kubernetes[resource][namespace][name]
func (e *evaluator) inventory(ctx context.Context, mode Mode) ([]byte, error) {
	type tree = map[string]any
	data := tree{}
	put := func(at tree, path []string, object tree) {
		for _, step := range path[:len(path)-1] {
			next, ok := at[step].(tree)
			if !ok {
				next = tree{}
				at[step] = next
			}
			at = next
		}
		at[path[len(path)-1]] = object
	}
	if mode == Gatekeeper {
		data["inventory"] = tree{"cluster": tree{}, "namespace": tree{}}
	} else {
		if err := json.Unmarshal(e.settings, &data); err != nil {
			return nil, err
		}
		data["kubernetes"] = tree{}
	}
	for _, res := range e.granted {
		items, err := e.reader.List(ctx, res, cluster.Selection{})
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			version, _ := item.Object["apiVersion"].(string)
			kind, _ := item.Object["kind"].(string)
			var path []string
			switch {
			case mode == Gatekeeper && item.Namespace == "":
				path = []string{"inventory", "cluster", version, kind, item.Name}
			case mode == Gatekeeper:
				path = []string{"inventory", "namespace", item.Namespace, version, kind, item.Name}
			case item.Namespace == "":
				path = []string{"kubernetes", res.Resource, item.Name}
			default:
				path = []string{"kubernetes", res.Resource, item.Namespace, item.Name}
			}
			put(data, path, item.Object)
		}
	}
	return json.Marshal(data)
}
