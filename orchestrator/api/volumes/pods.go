package volumes

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// Use is one claim that a pod uses.
type Use struct {
	Claim     string // its name, in the pod's namespace
	Volume    string // what the pod calls it
	Ephemeral bool   // it is made for the pod
}

// Uses are the claims that a pod uses, in the order of its volumes; one that it names twice is there twice.
func Uses(pod *corev1.Pod) (out []Use) {
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			out = append(out, Use{Claim: v.PersistentVolumeClaim.ClaimName, Volume: v.Name})
		case v.Ephemeral != nil:
			out = append(out, Use{Claim: api.EphemeralClaimName(pod.Name, v.Name), Volume: v.Name, Ephemeral: true})
		}
	}
	return out
}

// MadeFor returns an error where the claim of a pod's ephemeral volume is somebody else's.
func MadeFor(pod *corev1.Pod, c *corev1.PersistentVolumeClaim) error {
	if c.Namespace != pod.Namespace || !metav1.IsControlledBy(c, pod) {
		return fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", c.Namespace, c.Name, pod.Namespace, pod.Name)
	}
	return nil
}
