package apiserver_test

import (
	"encoding/json"
	"slices"
	"testing"

	apidiscovery "k8s.io/api/apidiscovery/v2"
)

func TestAggregatedDiscoveryHasBothOfItsVersions(t *testing.T) {
	c := start(t, options{})
	for _, version := range []string{"v2", "v2beta1"} {
		mediaType := "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList"
		answer, body := c.fetch("/api", mediaType+",application/json")
		var list apidiscovery.APIGroupDiscoveryList
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		if answer.Header.Get("Content-Type") != mediaType || list.APIVersion != "apidiscovery.k8s.io/"+version || len(list.Items) != 1 {
			t.Fatalf("%s: %s %s", version, answer.Header.Get("Content-Type"), list.APIVersion)
		}
		for _, resource := range list.Items[0].Versions[0].Resources {
			if got := slices.Contains(resource.Verbs, "deletecollection"); got == (resource.Resource == "namespaces") {
				t.Errorf("%s: deletecollection %v", resource.Resource, got)
			}
		}
	}
}
