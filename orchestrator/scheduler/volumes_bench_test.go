package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// BenchmarkDecideWithVolumes decides on pods of 5,000 nodes whose claims are bound to a node's volume, or wait for their first
// consumer, with 10,000 volumes there.
func BenchmarkDecideWithVolumes(b *testing.B) {
	d := NewDecider()
	v := volumeBindingOf(d)
	v.Set(parse[storagev1.StorageClass](b, `{metadata: {name: local-path}, provisioner: pintle.dev/local-path, volumeBindingMode: WaitForFirstConsumer}`))
	for i := range 5000 {
		d.SetNode(host(fmt.Sprint("n", i), "64"))
	}
	for i := range 10000 {
		v.Set(parse[corev1.PersistentVolume](b, fmt.Sprintf(`{metadata: {name: v%d}, spec: {storageClassName: local-path, capacity: {storage: 1Gi}, claimRef: {namespace: default, name: c%d}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n%d]}]}]}}}}`, i, i, i%5000)))
		v.Set(parse[corev1.PersistentVolumeClaim](b, fmt.Sprintf(`{metadata: {namespace: default, name: c%d, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {volumeName: v%d}}`, i, i)))
	}
	v.Set(parse[corev1.PersistentVolumeClaim](b, `{metadata: {namespace: default, name: wait}, spec: {storageClassName: local-path, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`))
	for name, claim := range map[string]string{"bound": "c1234", "waiting": "wait"} {
		b.Run(name, func(b *testing.B) {
			p := framework.NewPod(pod("p", "1", mounting(claim)))
			for b.Loop() {
				if _, err := d.Decide(b.Context(), p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
