package apiserver_test

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/api"
)

// specs are the least that each kind needs beside its metadata.
func specs() map[string]string {
	const pod = `containers: [{name: c, image: i}]`
	const template = `{metadata: {labels: {app: a}}, spec: {` + pod + `}}`
	const job = `template: {spec: {restartPolicy: Never, ` + pod + `}}`
	return map[string]string{
		"HorizontalPodAutoscaler": `spec: {scaleTargetRef: {kind: Deployment, name: d, apiVersion: apps/v1}, maxReplicas: 3}`,

		"Job":                   `spec: {` + job + `}`,
		"CronJob":               `spec: {schedule: "@hourly", jobTemplate: {spec: {` + job + `}}}`,
		"Pod":                   `spec: {` + pod + `}`,
		"Service":               `spec: {selector: {app: a}, ports: [{port: 80}]}`,
		"Endpoints":             `subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]`,
		"EndpointSlice":         "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 80}]",
		"ConfigMap":             `data: {k: v}`,
		"Secret":                `stringData: {k: v}`,
		"Lease":                 `spec: {holderIdentity: me, leaseDurationSeconds: 40}`,
		"ReplicaSet":            `spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}`,
		"Deployment":            `spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}`,
		"StatefulSet":           `spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}`,
		"DaemonSet":             `spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}`,
		"ControllerRevision":    "revision: 1\ndata: {a: b}",
		"Recommendation":        `spec: {targetRef: {kind: Deployment, name: d}}`,
		"ResourceQuota":         `spec: {hard: {secrets: "100"}}`,
		"LimitRange":            `spec: {limits: [{type: Container, max: {cpu: "100"}}]}`,
		"AddressPool":           `spec: {addresses: [192.168.1.240-192.168.1.250]}`,
		"ServiceCIDR":           `spec: {cidrs: [10.7.0.0/24]}`,
		"IPAddress":             `spec: {parentRef: {resource: services, namespace: default, name: s}}`,
		"Ingress":               `spec: {defaultBackend: {service: {name: s, port: {number: 80}}}}`,
		"IngressClass":          `spec: {controller: pintle.dev/ingress}`,
		"RuntimeClass":          `handler: wasm`,
		"PriorityClass":         `value: 10`,
		"PodDisruptionBudget":   `spec: {minAvailable: 1, selector: {matchLabels: {app: a}}}`,
		"AdmissionPolicy":       `spec: {module: m, matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]}}`,
		"SchedulingPolicy":      `spec: {module: m}`,
		"PersistentVolume":      `spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /data}}`,
		"PersistentVolumeClaim": `spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}`,
		"StorageClass":          `provisioner: pintle.dev/local-path`,
		"VolumeAttachment":      `spec: {attacher: d.x, nodeName: n1, source: {persistentVolumeName: v}}`,
		"CSIDriver":             `spec: {}`,
		"CSINode":               `spec: {drivers: [{name: d.x, nodeID: n1, topologyKeys: [a/b]}]}`,
		"CSIStorageCapacity":    `storageClassName: c`,
		"PodGroup":              `spec: {schedulingPolicy: {gang: {minCount: 2}}}`,
		"ResourceSlice":         `spec: {driver: d.x, nodeName: n1, pool: {name: n1, resourceSliceCount: 1}}`,
		"Role":                  `rules: [{verbs: [get], apiGroups: [""], resources: [pods]}]`,
		"ClusterRole":           `rules: [{verbs: [get], nonResourceURLs: ["/healthz"]}]`,
		"RoleBinding":           "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\nsubjects: [{kind: User, name: u, apiGroup: rbac.authorization.k8s.io}]",
		"ClusterRoleBinding":    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}\nsubjects: [{kind: User, name: u, apiGroup: rbac.authorization.k8s.io}]",
	}
}

func sample(t *testing.T, k *api.Kind, name string) *unstructured.Unstructured {
	t.Helper()
	body := specs()[k.GroupVersionKind.Kind]
	if k.GroupVersionKind.Kind == "Event" {
		body = "involvedObject: {kind: Pod, name: p, namespace: default}\nreason: R\nmessage: m"
		if k.GroupVersionKind.Group != "" {
			body = "eventTime: 2026-01-01T00:00:00.000000Z\nregarding: {kind: Pod, name: p, namespace: default}\nreason: R\nnote: m\naction: A\ntype: Normal\nreportingController: pintle.dev/c\nreportingInstance: i"
		}
	}
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(body), &obj.Object); err != nil {
		t.Fatal(err)
	}
	if obj.Object == nil {
		obj.Object = map[string]any{}
	}
	obj.SetGroupVersionKind(k.GroupVersionKind)
	obj.SetName(name)
	if k.Namespaced {
		obj.SetNamespace("default")
	}
	return obj
}

// sampleNames are the names of a kind's samples; what two groups or versions serve is stored as one.
func sampleNames(k *api.Kind) (first, second string) {
	if k.Resource == "ipaddresses" {
		return "10.7.0.1", "10.7.0.2"
	}
	return "sample", "second" + k.GroupVersionKind.Version + k.GroupVersionKind.Group
}

func TestEveryKindIsCreatedReadWatchedPatchedAndDeleted(t *testing.T) {
	c := start(t, options{})
	client := dynamic.NewForConfigOrDie(c.config())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, k := range api.All() {
		t.Run(k.Resource+"."+k.GroupVersionKind.Group, func(t *testing.T) {
			var r dynamic.ResourceInterface = client.Resource(k.GVR())
			if k.Namespaced {
				r = client.Resource(k.GVR()).Namespace("default")
			}
			first, name := sampleNames(k)
			obj := sample(t, k, first)
			obj.SetLabels(map[string]string{"step": "create"})
			created, err := r.Create(ctx, obj, metav1.CreateOptions{FieldManager: "creator"})
			if err != nil {
				t.Fatal("create:", err)
			}
			if created.GetUID() == "" || created.GetResourceVersion() == "" || created.GroupVersionKind() != k.GroupVersionKind || len(created.GetManagedFields()) == 0 {
				t.Fatalf("created object lacks metadata: %v", created.Object["metadata"])
			}
			if got, err := r.Get(ctx, first, metav1.GetOptions{}); err != nil || got.GetUID() != created.GetUID() {
				t.Fatal("get:", got, err)
			}
			listed, err := r.List(ctx, metav1.ListOptions{LabelSelector: "step=create", FieldSelector: "metadata.name=" + first})
			if err != nil || len(listed.Items) != 1 || listed.GetResourceVersion() == "" {
				t.Fatal("list:", listed, err)
			}
			watcher, err := r.Watch(ctx, metav1.ListOptions{ResourceVersion: listed.GetResourceVersion(), FieldSelector: "metadata.name=" + first})
			if err != nil {
				t.Fatal("watch:", err)
			}
			defer watcher.Stop()
			next := func(want watch.EventType, step string) {
				t.Helper()
				select {
				case e, ok := <-watcher.ResultChan():
					if !ok || e.Type != want || e.Object.(*unstructured.Unstructured).GetLabels()["step"] != step {
						t.Fatalf("event %v %v, want %s with step %s", e.Type, e.Object, want, step)
					}
				case <-ctx.Done():
					t.Fatal("no event for", step)
				}
			}
			patches := []struct {
				step, body string
				kind       types.PatchType
			}{
				{"json", `[{"op":"replace","path":"/metadata/labels/step","value":"json"}]`, types.JSONPatchType},
				{"merge", `{"metadata":{"labels":{"step":"merge"}}}`, types.MergePatchType},
				{"strategic", `{"metadata":{"labels":{"step":"strategic"}}}`, types.StrategicMergePatchType},
			}
			for _, p := range patches {
				got, err := r.Patch(ctx, first, p.kind, []byte(p.body), metav1.PatchOptions{FieldManager: "patcher"})
				if err != nil || got.GetLabels()["step"] != p.step {
					t.Fatal(p.step, got, err)
				}
				next(watch.Modified, p.step)
			}
			applied := &unstructured.Unstructured{Object: map[string]any{}}
			applied.SetGroupVersionKind(k.GroupVersionKind)
			applied.SetName(first)
			applied.SetLabels(map[string]string{"step": "apply"})
			if got, err := r.Apply(ctx, first, applied, metav1.ApplyOptions{FieldManager: "applier", Force: true}); err != nil || got.GetLabels()["step"] != "apply" {
				t.Fatal("apply:", got, err)
			}
			next(watch.Modified, "apply")
			before, err := r.Get(ctx, first, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if again, err := r.Apply(ctx, first, applied, metav1.ApplyOptions{FieldManager: "applier", Force: true}); err != nil || again.GetResourceVersion() != before.GetResourceVersion() {
				t.Fatal("applying the same again wrote:", again, err)
			}
			before.SetLabels(map[string]string{"step": "update"})
			if _, err := r.Update(ctx, before, metav1.UpdateOptions{FieldManager: "updater"}); err != nil {
				t.Fatal("update:", err)
			}
			next(watch.Modified, "update")
			zero := int64(0)
			if err := r.Delete(ctx, first, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
				t.Fatal("delete:", err)
			}
			if k.Resource != "namespaces" && len(created.GetFinalizers()) == 0 { // their controllers, which don't run here, end the others
				next(watch.Deleted, "update")
			}
			second := sample(t, k, name)
			if got, err := r.Apply(ctx, name, second, metav1.ApplyOptions{FieldManager: "applier"}); err != nil || got.GetUID() == "" {
				t.Fatal("create on apply:", got, err)
			}
			if _, err := r.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"step":"dry"}}}`), metav1.PatchOptions{DryRun: []string{"All"}}); err != nil {
				t.Fatal("dry run:", err)
			}
			if got, err := r.Get(ctx, name, metav1.GetOptions{}); err != nil || got.GetLabels()["step"] != "" {
				t.Fatal("a dry run wrote:", got, err)
			}
		})
	}
}
