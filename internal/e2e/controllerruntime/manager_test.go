package controllerruntime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// mirror keeps a copy of every ConfigMap that has the label mirror=yes, and says on Node "one" how many
// there are. It does what operators do: cached and indexed reads, CreateOrUpdate, owner references, merge
// patch, server-side apply, status, finalizers, events.
type mirror struct {
	client.Client
	events events.EventRecorder
}

const mirrorFinalizer = "example.com/mirror"

func (m *mirror) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	source := &corev1.ConfigMap{}
	if err := m.Get(ctx, req.NamespacedName, source); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if source.Labels["mirror"] != "yes" {
		return ctrl.Result{}, nil
	}
	if source.DeletionTimestamp != nil {
		before := source.DeepCopy()
		controllerutil.RemoveFinalizer(source, mirrorFinalizer)
		return ctrl.Result{}, client.IgnoreNotFound(m.Patch(ctx, source, client.MergeFrom(before)))
	}
	if before := source.DeepCopy(); controllerutil.AddFinalizer(source, mirrorFinalizer) {
		if err := m.Patch(ctx, source, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return ctrl.Result{}, err
		}
	}
	twin := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: source.Namespace, Name: source.Name + "-copy"}}
	result, err := controllerutil.CreateOrUpdate(ctx, m.Client, twin, func() error {
		twin.Data = source.Data
		return controllerutil.SetControllerReference(source, twin, m.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if result != controllerutil.OperationResultNone {
		m.events.Eventf(source, nil, corev1.EventTypeNormal, "Mirrored", "Mirror", "the copy was %s", result)
	}
	apply := corev1apply.ConfigMap(source.Name+"-applied", source.Namespace).WithData(source.Data)
	if err := m.Apply(ctx, apply, client.FieldOwner("mirror"), client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	var all corev1.ConfigMapList
	if err := m.List(ctx, &all, client.InNamespace(source.Namespace), client.MatchingFields{"owner": source.Name}); err != nil {
		return ctrl.Result{}, err
	}
	node := &corev1.Node{}
	if err := m.Get(ctx, types.NamespacedName{Name: "one"}, node); err != nil {
		return ctrl.Result{}, err
	}
	before := node.DeepCopy()
	node.Status.Conditions = append(node.Status.Conditions[:0:0], node.Status.Conditions...)
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeReady {
			node.Status.Conditions[i].Message = fmt.Sprintf("%d mirrored", len(all.Items))
		}
	}
	return ctrl.Result{}, m.Status().Patch(ctx, node, client.StrategicMergeFrom(before))
}

// startManager runs the operator until the returned function is called, which waits for its end.
func startManager(t *testing.T, cluster *orchestratortest.Cluster, elect bool) (ctrl.Manager, func()) {
	t.Helper()
	manager, err := ctrl.NewManager(cluster.RESTConfig(), ctrl.Options{
		Logger:         logr.Discard(),
		Metrics:        server.Options{BindAddress: "0"},
		LeaderElection: elect, LeaderElectionID: "mirror.example.com", LeaderElectionNamespace: "default", LeaderElectionReleaseOnCancel: true,
		LeaseDuration: ptr.To(5 * time.Second), RenewDeadline: ptr.To(3 * time.Second), RetryPeriod: ptr.To(100 * time.Millisecond),
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // two managers in one process
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.GetFieldIndexer().IndexField(t.Context(), &corev1.ConfigMap{}, "owner", func(o client.Object) []string {
		if owner := metav1.GetControllerOf(o); owner != nil {
			return []string{owner.Name}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err = ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Owns(&corev1.ConfigMap{}).
		Complete(&mirror{manager.GetClient(), manager.GetEventRecorder("mirror")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(ctx) }()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	}
	return manager, stop
}

func source(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"mirror": "yes"}},
		Data: map[string]string{"of": name}}
}

func soon(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// mirrored says whether the operator has done all that it does for a source.
func mirrored(cluster *orchestratortest.Cluster, name string) error {
	ctx := context.Background()
	maps := cluster.Client.CoreV1().ConfigMaps("default")
	for _, suffix := range []string{"-copy", "-applied"} {
		if got, err := maps.Get(ctx, name+suffix, metav1.GetOptions{}); err != nil || got.Data["of"] != name {
			return fmt.Errorf("%s%s: %v, %w", name, suffix, got.Data, err)
		}
	}
	node, err := cluster.Client.CoreV1().Nodes().Get(ctx, "one", metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Message == "1 mirrored" {
			return nil
		}
	}
	return fmt.Errorf("the node's conditions are %v", node.Status.Conditions)
}

// The cluster has no port: everything below goes through RESTConfig's connection in memory.
func TestAControllerRuntimeManagerReconcilesInProcess(t *testing.T) {
	for _, elect := range []bool{false, true} {
		t.Run(fmt.Sprintf("leader election %v", elect), func(t *testing.T) {
			cluster := orchestratortest.Start(t)
			cluster.AddNode(t, "one")
			manager, stop := startManager(t, cluster, elect)
			defer stop()
			ctx := t.Context()
			if err := manager.GetClient().Create(ctx, source("a")); err != nil {
				t.Fatal(err)
			}
			soon(t, "the source is mirrored", func() error { return mirrored(cluster, "a") })

			// What it wrote comes back through the manager's cache, typed, unstructured and as metadata alone.
			soon(t, "the cache has the copy", func() error {
				key := types.NamespacedName{Namespace: "default", Name: "a-copy"}
				untyped := &unstructured.Unstructured{}
				untyped.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"})
				meta := &metav1.PartialObjectMetadata{}
				meta.SetGroupVersionKind(untyped.GroupVersionKind())
				if err := errors.Join(manager.GetClient().Get(ctx, key, untyped), manager.GetClient().Get(ctx, key, meta)); err != nil {
					return err
				}
				if of, _, _ := unstructured.NestedString(untyped.Object, "data", "of"); of != "a" || len(meta.OwnerReferences) != 1 {
					return fmt.Errorf("data.of is %q, owners %v", of, meta.OwnerReferences)
				}
				return nil
			})
			soon(t, "the event", func() error {
				events, err := cluster.Client.EventsV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "reason=Mirrored"})
				if err == nil && len(events.Items) == 0 {
					err = errors.New("no event")
				}
				return err
			})

			// A copy that somebody deletes is made anew; with its source it goes, and stays away.
			if err := cluster.Client.CoreV1().ConfigMaps("default").Delete(ctx, "a-copy", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			soon(t, "the copy is made anew", func() error { return mirrored(cluster, "a") })
			if err := manager.GetClient().DeleteAllOf(ctx, &corev1.ConfigMap{}, client.InNamespace("default"), client.MatchingLabels{"mirror": "yes"}); err != nil {
				t.Fatal(err)
			}
			soon(t, "the copy is gone", func() error {
				_, err := cluster.Client.CoreV1().ConfigMaps("default").Get(ctx, "a-copy", metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return fmt.Errorf("got %v", err)
			})
		})
	}
}

func TestASecondManagerTakesOverTheLease(t *testing.T) {
	cluster := orchestratortest.Start(t)
	cluster.AddNode(t, "one")
	first, stopFirst := startManager(t, cluster, true)
	<-first.Elected()
	second, stopSecond := startManager(t, cluster, true)
	defer stopSecond()
	if !second.GetCache().WaitForCacheSync(t.Context()) {
		t.Fatal("the second manager's cache is not filled")
	}
	select {
	case <-second.Elected():
		t.Fatal("two managers lead")
	default:
	}
	holder := func() string {
		lease := &coordinationv1.Lease{}
		if err := first.GetAPIReader().Get(t.Context(), types.NamespacedName{Namespace: "default", Name: "mirror.example.com"}, lease); err != nil {
			t.Fatal(err)
		}
		return ptr.Deref(lease.Spec.HolderIdentity, "")
	}
	before := holder()
	stopFirst()
	<-second.Elected()
	if now := holder(); now == before || now == "" {
		t.Errorf("the lease's holder was %q and is %q", before, now)
	}
	if err := second.GetClient().Create(t.Context(), source("b")); err != nil {
		t.Fatal(err)
	}
	soon(t, "the second mirrors", func() error { return mirrored(cluster, "b") })
}

// A client of the manager's kind sees the errors that Kubernetes would give it.
func TestControllerRuntimesClientGetsTypedErrors(t *testing.T) {
	cluster := orchestratortest.Start(t)
	c, err := client.New(cluster.RESTConfig(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	object := source("x")
	if err := c.Create(ctx, object); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, source("x")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second creation: %v", err)
	}
	stale := object.DeepCopy()
	object.Data["of"] = "new"
	if err := c.Update(ctx, object); err != nil {
		t.Fatal(err)
	}
	stale.Data["of"] = "old"
	if err := c.Update(ctx, stale); !apierrors.IsConflict(err) {
		t.Errorf("a stale update: %v", err)
	}
	if err := c.Get(ctx, types.NamespacedName{Namespace: "default", Name: "nowhere"}, object); !apierrors.IsNotFound(err) {
		t.Errorf("a missing object: %v", err)
	}
	var status apierrors.APIStatus
	if err := c.Create(ctx, source("Not A Name")); !errors.As(err, &status) || status.Status().Code != http.StatusUnprocessableEntity {
		t.Errorf("a bad name: %v", err)
	}
}
