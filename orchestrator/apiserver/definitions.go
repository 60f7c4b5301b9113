package apiserver

import (
	"net/http"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// isDefinitions reports whether a request lists CustomResourceDefinitions. There are none, discovery
// doesn't name them and nothing else about them is served; but kubectl, before it sends a kind that it
// can't find among the patchable ones (a TokenReview, say), asks whether that is one of them.
func isDefinitions(info requestInfo) bool {
	return info.verb == "list" && info.namespace == "" &&
		info.gvr == schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

func (s *Server) noDefinitions(w http.ResponseWriter, r *http.Request) error {
	return writeRaw(w, r, http.StatusOK, mediaJSON, mustJSON(map[string]any{
		"kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
		"metadata": map[string]any{"resourceVersion": strconv.FormatInt(s.registry.Revision(), 10)}, "items": []any{},
	}))
}
