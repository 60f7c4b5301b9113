package resourceclaim

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// forPod is what a pod lacks.
type forPod struct {
	create   []*resourcev1.ResourceClaim     // claims from templates
	entries  []string                        // the pod's own names of these, in the same order
	statuses []corev1.PodResourceClaimStatus // of the claims that are there
	reserve  []*resourcev1.ResourceClaim     // that an already bound pod uses without a reservation
	problems []string
}

// decidePod works out what a pod needs. claim finds claims of its namespace by name, owned are those whose owner is the
// pod, template finds templates.
func decidePod(pod *corev1.Pod, owned []*resourcev1.ResourceClaim, claim func(string) *resourcev1.ResourceClaim,
	template func(string) *resourcev1.ResourceClaimTemplate) (todo forPod) {
	if pod.DeletionTimestamp != nil || reconcile.PodTerminal(pod) {
		return todo
	}
	for i := range pod.Spec.ResourceClaims {
		entry := &pod.Spec.ResourceClaims[i]
		var found *resourcev1.ResourceClaim
		switch {
		case entry.ResourceClaimName != nil:
			found = claim(*entry.ResourceClaimName)
		case entry.ResourceClaimTemplateName != nil:
			if found = generated(pod, entry.Name, owned); found != nil {
				todo.statuses = append(todo.statuses, corev1.PodResourceClaimStatus{Name: entry.Name, ResourceClaimName: &found.Name})
				break
			}
			t := template(*entry.ResourceClaimTemplateName)
			if t == nil {
				todo.problems = append(todo.problems, fmt.Sprintf("PodResourceClaim %s: resource claim template %q not found", entry.Name, *entry.ResourceClaimTemplateName))
				break
			}
			todo.create = append(todo.create, fromTemplate(pod, entry.Name, t))
			todo.entries = append(todo.entries, entry.Name)
		}
		if found != nil && pod.Spec.NodeName != "" && found.Status.Allocation != nil && found.DeletionTimestamp == nil && !reserved(found, pod.UID) {
			todo.reserve = append(todo.reserve, found)
		}
	}
	return todo
}

// generated is the claim that was made for an entry of the pod: the one that the status names, else the oldest.
func generated(pod *corev1.Pod, entry string, owned []*resourcev1.ResourceClaim) (found *resourcev1.ResourceClaim) {
	named := ""
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.Name == entry && s.ResourceClaimName != nil {
			named = *s.ResourceClaimName
		}
	}
	for _, c := range owned {
		if c.DeletionTimestamp != nil || c.Annotations[resourcev1.PodResourceClaimAnnotation] != entry || !metav1.IsControlledBy(c, pod) {
			continue
		}
		if c.Name == named {
			return c
		}
		if found == nil || c.CreationTimestamp.Before(&found.CreationTimestamp) || c.CreationTimestamp.Equal(&found.CreationTimestamp) && c.Name < found.Name {
			found = c
		}
	}
	return found
}

func fromTemplate(pod *corev1.Pod, entry string, t *resourcev1.ResourceClaimTemplate) *resourcev1.ResourceClaim {
	annotations := map[string]string{resourcev1.PodResourceClaimAnnotation: entry}
	for k, v := range t.Spec.Annotations {
		if k != resourcev1.PodResourceClaimAnnotation {
			annotations[k] = v
		}
	}
	labels := map[string]string{}
	for k, v := range t.Spec.Labels {
		labels[k] = v
	}
	owner := reconcile.ControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))
	owner.BlockOwnerDeletion = ptr.To(true)
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, GenerateName: fmt.Sprintf("%s-%s-", pod.Name, entry), Labels: labels,
			Annotations: annotations, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec: *t.Spec.Spec.DeepCopy(),
	}
}

func reserved(c *resourcev1.ResourceClaim, pod types.UID) bool {
	return slices.ContainsFunc(c.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod })
}

// forClaim is what is to become of a claim.
type forClaim struct {
	status      *resourcev1.ResourceClaimStatus // to be written; nil: as it is
	unprotected bool                            // the finalizer goes
	remove      bool                            // it was made for a pod that has ended
}

// decideClaim works out who uses a claim. pod finds pods of its namespace by name.
func decideClaim(c *resourcev1.ResourceClaim, pod func(string) *corev1.Pod) (todo forClaim) {
	users := slices.DeleteFunc(slices.Clone(c.Status.ReservedFor), func(r resourcev1.ResourceClaimConsumerReference) bool {
		if r.APIGroup != "" || r.Resource != "pods" {
			return false // we don't know what it is: it may be using the claim
		}
		p := pod(r.Name)
		return p == nil || p.UID != r.UID || done(p)
	})
	allocated := c.Status.Allocation != nil
	ended := len(users) < len(c.Status.ReservedFor)
	if free := len(users) == 0 && allocated && (ended || c.DeletionTimestamp != nil); ended || free {
		todo.status = c.Status.DeepCopy()
		if todo.status.ReservedFor = users; free {
			todo.status.ReservedFor, todo.status.Allocation, todo.status.Devices = nil, nil, nil
			allocated = false
		}
	}
	if len(users) > 0 {
		return todo
	}
	todo.unprotected = !allocated && slices.Contains(c.Finalizers, resourcev1.Finalizer)
	if owner := metav1.GetControllerOfNoCopy(c); owner != nil && owner.Kind == "Pod" && owner.APIVersion == "v1" && c.DeletionTimestamp == nil {
		// Of a pod that is gone the garbage collector removes it.
		p := pod(owner.Name)
		todo.remove = p != nil && p.UID == owner.UID && done(p)
	}
	return todo
}

// done says whether the pod runs no more and never will.
func done(p *corev1.Pod) bool {
	return reconcile.PodTerminal(p) || p.DeletionTimestamp != nil && p.Spec.NodeName == ""
}
