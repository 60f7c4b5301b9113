package registry

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// root begins every key of ours: /registry/<group|core>/<resource>/[<namespace>/]<name>.
const root = "/registry/"

func resourcePath(gvr schema.GroupVersionResource) string {
	group := gvr.Group
	if group == "" {
		group = "core"
	}
	return group + "/" + gvr.Resource
}

// splitKey is the inverse: the path of the resource and the key within it.
func splitKey(key string) (path, within string, ok bool) {
	rest, ok := strings.CutPrefix(key, root)
	if !ok {
		return "", "", false
	}
	group, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return "", "", false
	}
	resource, within, ok := strings.Cut(rest, "/")
	return group + "/" + resource, within, ok && within != ""
}

func entryKey(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func namespaceOf(key string) string {
	ns, _, ok := strings.Cut(key, "/")
	if !ok {
		return ""
	}
	return ns
}
