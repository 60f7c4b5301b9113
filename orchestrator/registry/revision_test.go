package registry_test

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

func names(page registry.ListResult) (out []string) {
	for _, e := range page.Entries {
		out = append(out, e.Object().GetName())
	}
	return out
}

func TestAnExpiredPageComesWithATokenToGoOn(t *testing.T) {
	var store *raftstore.Store
	r := open(t, func(c *registry.Config) { store = c.Store })
	cms := core("configmaps")
	for n := range 4 {
		create(t, r, cms, configMap(fmt.Sprint("c", n)))
	}
	page, err := r.List(t.Context(), cms, "default", registry.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	last := create(t, r, cms, configMap("c9"))
	if err := store.Compact(t.Context(), r.Revision()); err != nil {
		t.Fatal(err)
	}
	_, err = r.List(t.Context(), cms, "default", registry.ListOptions{Limit: 2, Continue: page.Continue})
	refused(t, err, apierrors.IsResourceExpired, "continue parameter is too old")
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().ListMeta.Continue == "" {
		t.Fatalf("no token in %v", err)
	}
	rest, err := r.List(t.Context(), cms, "default", registry.ListOptions{Continue: status.Status().ListMeta.Continue})
	if err != nil || fmt.Sprint(names(rest)) != "[c2 c3 c9]" || fmt.Sprint(rest.Revision) < last.ResourceVersion {
		t.Fatal(names(rest), rest.Revision, err)
	}
	_, err = r.List(t.Context(), cms, "default", registry.ListOptions{ResourceVersion: "1", ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	refused(t, err, apierrors.IsResourceExpired, "too old resource version")
}

func TestAResourceVersionMeansWhatKubernetesSays(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	first := create(t, r, cms, configMap("a"))
	create(t, r, cms, configMap("b"))
	rv := first.ResourceVersion
	for _, tc := range []struct {
		name string
		opts registry.ListOptions
		want string
	}{
		{"newest", registry.ListOptions{}, "[a b]"},
		{"any", registry.ListOptions{ResourceVersion: "0"}, "[a b]"},
		{"any, of a page", registry.ListOptions{ResourceVersion: "0", Limit: 5}, "[a b]"},
		{"not older", registry.ListOptions{ResourceVersion: rv}, "[a b]"},
		{"not older, said", registry.ListOptions{ResourceVersion: rv, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, Limit: 5}, "[a b]"},
		{"exact", registry.ListOptions{ResourceVersion: rv, ResourceVersionMatch: metav1.ResourceVersionMatchExact}, "[a]"},
		{"a page of a version", registry.ListOptions{ResourceVersion: rv, Limit: 5}, "[a]"},
	} {
		page, err := r.List(t.Context(), cms, "default", tc.opts)
		if err != nil || fmt.Sprint(names(page)) != tc.want {
			t.Errorf("%s: %v %v, want %s", tc.name, names(page), err, tc.want)
		}
	}
	if err := r.Reach(t.Context(), rv); err != nil {
		t.Error(err)
	}
	refused(t, r.Reach(t.Context(), "x"), apierrors.IsBadRequest, "resourceVersion must be a number")
	refused(t, r.Reach(t.Context(), "-1"), apierrors.IsBadRequest, "resourceVersion must be a number")
	refused(t, r.Reach(t.Context(), "99999999"), apierrors.IsTimeout, "Too large resource version")
}

func TestAnObjectIsEncodedOnce(t *testing.T) {
	r := open(t)
	cms := core("configmaps")
	create(t, r, cms, configMap("a", "k", "v"))
	get := func() *registry.Entry {
		e, err := r.Get(t.Context(), cms, "default", "a")
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	list, err := r.List(t.Context(), cms, "default", registry.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := get(), list.Entries[0]
	if &a.JSON()[0] != &b.JSON()[0] || &a.Protobuf()[0] != &b.Protobuf()[0] {
		t.Error("two readers have two encodings of one version")
	}
}
