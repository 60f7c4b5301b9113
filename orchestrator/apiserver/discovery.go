package apiserver

import (
	"net/http"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// discovery is what is served, in the three forms in which clients ask for it. It never changes.
type discovery struct {
	list       metav1.APIGroupList
	resources  map[schema.GroupVersion]*metav1.APIResourceList
	core, rest *apidiscovery.APIGroupDiscoveryList
}

// subresource says how one subresource looks in discovery.
type subresource struct {
	name  string
	gvk   schema.GroupVersionKind
	verbs []string
}

func subresourcesOf(k *api.Kind) []subresource {
	var out []subresource
	if k.Status != nil {
		out = append(out, subresource{"status", k.GroupVersionKind, []string{"get", "patch", "update"}})
	}
	if k.Scale != nil {
		out = append(out, subresource{"scale", autoscalingv1.SchemeGroupVersion.WithKind("Scale"), []string{"get", "patch", "update"}})
	}
	if k.Resize != nil {
		out = append(out, subresource{"resize", k.GroupVersionKind, []string{"get", "patch", "update"}})
	}
	if k.Bytes != nil {
		out = append(out, subresource{k.Bytes.Subresource, k.GroupVersionKind, []string{"get", "update"}})
	}
	core := func(kind string) schema.GroupVersionKind { return schema.GroupVersionKind{Version: "v1", Kind: kind} }
	stream := []string{"create", "get"}
	for _, name := range k.Subresources {
		s := subresource{name, k.GroupVersionKind, []string{"get"}}
		switch name {
		case "binding":
			s.gvk, s.verbs = core("Binding"), []string{"create"}
		case "eviction":
			s.gvk, s.verbs = schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}, []string{"create"}
		case "exec":
			s.gvk, s.verbs = core("PodExecOptions"), stream
		case "attach":
			s.gvk, s.verbs = core("PodAttachOptions"), stream
		case "portforward":
			s.gvk, s.verbs = core("PodPortForwardOptions"), stream
		case "proxy":
			s.gvk, s.verbs = core("NodeProxyOptions"), []string{"create", "delete", "get", "patch", "update"}
		case "token":
			s.gvk, s.verbs = schema.GroupVersionKind{Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest"}, []string{"create"}
		case "finalize":
			s.verbs = []string{"update"}
		}
		out = append(out, s)
	}
	return out
}

// offersDeleteCollection reports whether all objects of a kind may be deleted in one request. For
// namespaces that would be the whole cluster: Kubernetes doesn't offer it either.
func offersDeleteCollection(k *api.Kind) bool {
	return k.GroupVersionKind.Group != "" || k.Resource != "namespaces"
}

func verbsOf(k *api.Kind) []string {
	verbs := []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	if !offersDeleteCollection(k) {
		verbs = slices.DeleteFunc(verbs, func(v string) bool { return v == "deletecollection" })
	}
	return verbs
}

func newDiscovery(kinds []*api.Kind) *discovery {
	d := &discovery{
		resources: map[schema.GroupVersion]*metav1.APIResourceList{},
		core:      newAggregated(), rest: newAggregated(),
	}
	d.list.TypeMeta = metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}
	for _, k := range kinds {
		resource := apidiscovery.APIResourceDiscovery{
			Resource: k.Resource, ResponseKind: metaGVK(k.GroupVersionKind), Scope: apidiscovery.ScopeCluster,
			SingularResource: k.Singular, Verbs: verbsOf(k), ShortNames: k.ShortNames, Categories: k.Categories,
		}
		if k.Namespaced {
			resource.Scope = apidiscovery.ScopeNamespace
		}
		for _, sub := range subresourcesOf(k) {
			resource.Subresources = append(resource.Subresources, apidiscovery.APISubresourceDiscovery{
				Subresource: sub.name, ResponseKind: metaGVK(sub.gvk), Verbs: sub.verbs,
			})
		}
		d.add(k.GroupVersionKind.GroupVersion(), resource)
	}
	for _, review := range reviewKinds() {
		resource := apidiscovery.APIResourceDiscovery{
			Resource: review.resource, ResponseKind: metaGVK(review.gvk), Scope: apidiscovery.ScopeCluster,
			SingularResource: strings.ToLower(review.gvk.Kind), Verbs: []string{"create"},
		}
		if review.namespaced {
			resource.Scope = apidiscovery.ScopeNamespace
		}
		d.add(review.gvk.GroupVersion(), resource)
	}
	return d
}

func newAggregated() *apidiscovery.APIGroupDiscoveryList {
	return &apidiscovery.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"}}
}

func metaGVK(gvk schema.GroupVersionKind) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}

// add writes one resource into all three forms.
func (d *discovery) add(gv schema.GroupVersion, resource apidiscovery.APIResourceDiscovery) {
	version := d.addVersion(gv)
	version.Resources = append(version.Resources, resource)

	list := d.resources[gv]
	namespaced := resource.Scope == apidiscovery.ScopeNamespace
	list.APIResources = append(list.APIResources, metav1.APIResource{
		Name: resource.Resource, SingularName: resource.SingularResource, Namespaced: namespaced, Kind: resource.ResponseKind.Kind,
		Verbs: resource.Verbs, ShortNames: resource.ShortNames, Categories: resource.Categories,
	})
	for _, sub := range resource.Subresources {
		entry := metav1.APIResource{Name: resource.Resource + "/" + sub.Subresource, Namespaced: namespaced, Kind: sub.ResponseKind.Kind, Verbs: sub.Verbs}
		if sub.ResponseKind.Group != gv.Group || sub.ResponseKind.Version != gv.Version {
			entry.Group, entry.Version = sub.ResponseKind.Group, sub.ResponseKind.Version
		}
		list.APIResources = append(list.APIResources, entry)
	}
}

// addVersion is the version in the newer form; it is new where it wasn't there.
func (d *discovery) addVersion(gv schema.GroupVersion) *apidiscovery.APIVersionDiscovery {
	target := d.rest
	if gv.Group == "" {
		target = d.core
	}
	i := slices.IndexFunc(target.Items, func(g apidiscovery.APIGroupDiscovery) bool { return g.Name == gv.Group })
	if i < 0 {
		target.Items = append(target.Items, apidiscovery.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: gv.Group}})
		i = len(target.Items) - 1
	}
	group := &target.Items[i]
	j := slices.IndexFunc(group.Versions, func(v apidiscovery.APIVersionDiscovery) bool { return v.Version == gv.Version })
	if j < 0 {
		group.Versions = append(group.Versions, apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent})
		j = len(group.Versions) - 1
		d.resources[gv] = &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
		d.addGroup(gv)
	}
	return &group.Versions[j]
}

func (d *discovery) addGroup(gv schema.GroupVersion) {
	if gv.Group == "" {
		return
	}
	version := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	for i := range d.list.Groups {
		if d.list.Groups[i].Name == gv.Group {
			d.list.Groups[i].Versions = append(d.list.Groups[i].Versions, version)
			return
		}
	}
	d.list.Groups = append(d.list.Groups, metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version})
}

// serveDiscovery serves /api, /apis, /api/v1, /apis/GROUP and /apis/GROUP/VERSION.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request, path string) error {
	parts := strings.Split(path[1:], "/")
	var transforms []string
	if len(parts) == 1 {
		transforms = []string{asGroupDiscovery}
	}
	neg, err := negotiate(r.Header.Get("Accept"), r.URL.Query(), transforms)
	if err != nil {
		return err
	}
	switch {
	case neg.as == asGroupDiscovery:
		list := s.groups.rest
		if parts[0] == "api" {
			list = s.groups.core
		}
		versioned := *s.withMetrics(list) // shallow: the items are shared and read alone
		versioned.APIVersion = groupDiscovery + "/" + neg.version
		raw, err := fromJSON(mustJSON(&versioned), neg)
		if err != nil {
			return err
		}
		contentType := neg.format.mediaType() + ";g=" + groupDiscovery + ";v=" + neg.version + ";as=" + asGroupDiscovery
		return writeRaw(w, r, http.StatusOK, contentType, raw)
	case path == "/api":
		return s.writeObject(w, r, http.StatusOK, &metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}},
		}, jsonOnly(neg))
	case path == "/apis":
		return s.writeObject(w, r, http.StatusOK, &s.groups.list, jsonOnly(neg))
	case len(parts) == 2 && parts[0] == "apis":
		for i := range s.groups.list.Groups {
			if group := s.groups.list.Groups[i]; group.Name == parts[1] {
				group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
				return s.writeObject(w, r, http.StatusOK, &group, jsonOnly(neg))
			}
		}
	case len(parts) == 2 || len(parts) == 3:
		gv := schema.GroupVersion{Version: parts[len(parts)-1]}
		if parts[0] == "apis" {
			gv.Group = parts[1]
		}
		list := s.groups.resources[gv]
		if metrics := s.metricResources(gv); metrics != nil && len(parts) == 3 {
			list = metrics
		}
		if list != nil && (parts[0] == "apis") == (gv.Group != "") {
			return s.writeObject(w, r, http.StatusOK, list, jsonOnly(neg))
		}
	}
	return errNoSuchPath()
}

// jsonOnly answers protobuf clients in JSON: discovery is small and every client reads both.
func jsonOnly(neg negotiated) negotiated {
	if neg.format == formatProtobuf {
		neg.format = formatJSON
	}
	return neg
}
