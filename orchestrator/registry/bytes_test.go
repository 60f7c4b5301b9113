package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

func modules() schema.GroupVersionResource {
	return api.PolicyGroupVersion().WithResource("policymodules")
}

// someWasm is a module of n bytes that begins as one and says which it is.
func someWasm(n int, which byte) []byte {
	data := bytes.Repeat([]byte{which}, n)
	copy(data, "\x00asm")
	return data
}

// keysBeside counts what the store keeps beside objects.
func keysBeside(t *testing.T, store *raftstore.Store) int64 {
	t.Helper()
	res, err := store.Range(t.Context(), raftstore.RangeRequest{Prefix: "/beside/", CountOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	return res.Count
}

func openWithStore(t *testing.T, change ...func(*registry.Config)) (*registry.Registry, *raftstore.Store) {
	var store *raftstore.Store
	r := open(t, append(change, func(cfg *registry.Config) { store = cfg.Store })...)
	return r, store
}

func module(name string) *api.PolicyModule {
	return &api.PolicyModule{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func TestBytesLieBesideTheirObjectAndGoWithIt(t *testing.T) {
	r, store := openWithStore(t)
	create(t, r, modules(), module("m"))
	if _, _, err := r.Bytes(t.Context(), modules(), "", "m"); !apierrors.IsNotFound(err) {
		t.Errorf("before an upload: %v", err)
	}
	for n, size := range []int{8, 1 << 20, 3<<20 + 17, 100} {
		want := someWasm(size, byte('a'+n))
		e, err := r.PutBytes(t.Context(), modules(), "", "m", want, registry.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := e.Object().(*api.PolicyModule)
		got, stored, err := r.Bytes(t.Context(), modules(), "", "m")
		if err != nil || !bytes.Equal(got, want) || m.Status.Upload == nil || stored.Digest != m.Status.Upload.Digest || m.Generation != int64(n)+2 {
			t.Fatalf("%d bytes: got %d, %+v, %v", size, len(got), m, err)
		}
		if pieces := int64(max(1, (size+1<<20-1)>>20)); keysBeside(t, store) != pieces {
			t.Errorf("%d bytes: %d pieces are kept, not %d", size, keysBeside(t, store), pieces)
		}
		if text := e.JSON(); len(text) > 4096 {
			t.Errorf("the object has grown to %d bytes", len(text))
		}
	}
	c := r.Client("me")
	o, err := c.Get(t.Context(), modules(), "", "m")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := o.DeepCopyObject().(*api.PolicyModule)
	elsewhere.Spec.Source.Image = "a"
	if _, err := c.Update(t.Context(), modules(), "", elsewhere); err != nil {
		t.Fatal(err)
	}
	if n := keysBeside(t, store); n != 0 {
		t.Errorf("%d pieces are kept of a module that comes from an image", n)
	}
	create(t, r, modules(), module("n"))
	if _, err := r.PutBytes(t.Context(), modules(), "", "n", someWasm(2<<20, 'x'), registry.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), modules(), "", "n", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := keysBeside(t, store); n != 0 {
		t.Errorf("%d pieces are kept of a module that is gone", n)
	}
}

func TestBytesThatAreRefusedLeaveNothing(t *testing.T) {
	r, store := openWithStore(t)
	create(t, r, modules(), module("m"))
	put := func(name string, data []byte, opts registry.UpdateOptions) error {
		_, err := r.PutBytes(t.Context(), modules(), "", name, data, opts)
		return err
	}
	for name, tc := range map[string]struct {
		err error
		is  func(error) bool
	}{
		"no module":      {put("m", []byte("hello"), registry.UpdateOptions{}), apierrors.IsInvalid},
		"too many":       {put("m", someWasm(32<<20+1, 'x'), registry.UpdateOptions{}), apierrors.IsRequestEntityTooLargeError},
		"no object":      {put("n", someWasm(8, 'x'), registry.UpdateOptions{}), apierrors.IsNotFound},
		"only a dry run": {put("m", someWasm(8, 'x'), registry.UpdateOptions{DryRun: true}), func(err error) bool { return err == nil }},
		"a kind with none": {func() error {
			_, err := r.PutBytes(t.Context(), core("pods"), "default", "p", nil, registry.UpdateOptions{})
			return err
		}(), apierrors.IsNotFound},
	} {
		if !tc.is(tc.err) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	if n := keysBeside(t, store); n != 0 {
		t.Errorf("%d pieces are kept", n)
	}
	if e, err := r.Get(t.Context(), modules(), "", "m"); err != nil || e.Object().(*api.PolicyModule).Status.Upload != nil {
		t.Errorf("%v %v", e, err)
	}
}

// Readers have the one or the other whole, whatever is uploaded, changed and read at the same time; in the end one
// upload is kept.
func TestUploadsAtTheSameTimeReplaceEachOtherWhole(t *testing.T) {
	r, store := openWithStore(t)
	create(t, r, modules(), module("m"))
	if _, err := r.PutBytes(t.Context(), modules(), "", "m", someWasm(2<<20, 'a'), registry.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers, others sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for n := range 4 {
				_, err := r.PutBytes(t.Context(), modules(), "", "m", someWasm(2<<20+w, byte('a'+n)), registry.UpdateOptions{})
				if err != nil && !apierrors.IsConflict(err) {
					t.Errorf("upload: %v", err)
				}
			}
		})
	}
	others.Go(func() {
		for ctx.Err() == nil {
			data, _, err := r.Bytes(t.Context(), modules(), "", "m")
			if err != nil {
				t.Errorf("read: %v", err)
				return
			}
			if rest := bytes.Trim(data[4:], string(data[4:5])); len(rest) > 0 {
				t.Errorf("a mixture was read")
				return
			}
		}
	})
	others.Go(func() { // statuses change meanwhile
		for n := 0; ctx.Err() == nil; n++ {
			e, err := r.Get(t.Context(), modules(), "", "m")
			if err != nil {
				t.Error(err)
				return
			}
			m := e.Object().DeepCopyObject().(*api.PolicyModule)
			m.Status.Message = fmt.Sprint(n)
			if _, err := r.Update(t.Context(), modules(), "status", m, registry.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
				t.Error(err)
				return
			}
		}
	})
	writers.Wait()
	cancel()
	others.Wait()
	if n := keysBeside(t, store); n != 3 && n != 2 {
		t.Errorf("%d pieces are kept", n)
	}
}

func TestAnUploadEndsWithItsObject(t *testing.T) {
	r, store := openWithStore(t)
	for n := range 10 {
		create(t, r, modules(), module("m"))
		done := make(chan error, 1)
		go func() {
			_, err := r.PutBytes(t.Context(), modules(), "", "m", someWasm(4<<20, byte('a'+n)), registry.UpdateOptions{})
			done <- err
		}()
		if err := r.Client("me").Delete(t.Context(), modules(), "", "m", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			t.Errorf("got %v", err)
		}
		if kept := keysBeside(t, store); kept != 0 {
			t.Fatalf("%d pieces are kept", kept)
		}
	}
}

// replaces has every object become another, with a label.
type replaces struct{}

func (replaces) Admit(_ context.Context, req registry.Request) error {
	m, ok := req.Object.(*api.Member)
	if !ok || req.Object == nil {
		return nil
	}
	next := m.DeepCopyObject().(*api.Member)
	next.Labels = map[string]string{"a": "b"}
	next.Spec.Role, next.Status.Version = api.MemberVoter, "from the admitter"
	req.Replace(next)
	return nil
}

// An Admitter changes no more than a client might: what it makes of an object is prepared again.
func TestWhatAnAdmitterMakesOfAnObjectIsPrepared(t *testing.T) {
	r := open(t, func(cfg *registry.Config) { cfg.Admitter = replaces{} })
	gvr := api.ClusterGroupVersion().WithResource("members")
	m := create(t, r, gvr, &api.Member{ObjectMeta: metav1.ObjectMeta{Name: "m"}})
	if m.Status.Version != "" || m.Spec.Role != api.MemberVoter || m.Labels["a"] != "b" || m.Generation != 1 {
		t.Errorf("created: %+v", m)
	}
	c := r.Client("me")
	plain := m.DeepCopyObject().(*api.Member)
	plain.Spec.Role = ""
	o, err := c.Update(t.Context(), gvr, "", plain)
	if err != nil || o.GetGeneration() != 1 || o.(*api.Member).Status.Version != "" {
		t.Errorf("updated: %+v, %v", o, err)
	}
	status := m.DeepCopyObject().(*api.Member)
	status.Status.Lag = 5
	o, err = c.Update(t.Context(), gvr, "status", status)
	if err != nil {
		t.Fatal(err)
	}
	if m := o.(*api.Member); m.Status.Version != "from the admitter" || m.Status.Lag != 5 {
		t.Errorf("status updated: %+v", m)
	}
}
