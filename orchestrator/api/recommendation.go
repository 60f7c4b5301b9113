package api

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AutoscalingGroupVersion is the group of what is said of workloads' sizes beside Kubernetes' own kinds.
func AutoscalingGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "autoscaling.pintle.dev", Version: "v1alpha1"}
}

// Recommendation asks what a workload's containers really use, and says it in its status. It is named for what a person
// reads: nothing is changed by it, as a VerticalPodAutoscaler would.
type Recommendation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   RecommendationSpec   `json:"spec,omitempty"`
	Status RecommendationStatus `json:"status,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (Recommendation) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "Recommendation says what the containers of a workload really use, and suggests requests. It changes nothing.",
		"spec":   "Which workload.",
		"status": "What was seen, and is suggested.",
	}
}

// RecommendationSpec names the workload.
type RecommendationSpec struct {
	TargetRef TargetRef `json:"targetRef"`
}

// SwaggerDoc is what `kubectl explain` says.
func (RecommendationSpec) SwaggerDoc() map[string]string {
	return map[string]string{"": "RecommendationSpec names a workload.", "targetRef": "The workload, in the Recommendation's namespace."}
}

// TargetRef names an object that makes pods: a Deployment, StatefulSet, DaemonSet, Job, CronJob, or another that owns pods.
type TargetRef struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

// SwaggerDoc is what `kubectl explain` says.
func (TargetRef) SwaggerDoc() map[string]string {
	return map[string]string{"": "TargetRef names an object of the same namespace.", "apiVersion": "Its group and version. Empty: any that has the kind.",
		"kind": "Its kind, such as Deployment.", "name": "Its name."}
}

// RecommendationStatus is what was seen.
type RecommendationStatus struct {
	ObservedGeneration int64                     `json:"observedGeneration,omitempty"`
	Message            string                    `json:"message,omitempty"`
	Containers         []ContainerRecommendation `json:"containers,omitempty"`
	Checkpoint         string                    `json:"checkpoint,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (RecommendationStatus) SwaggerDoc() map[string]string {
	return map[string]string{
		"":                   "RecommendationStatus is what a workload's containers use.",
		"observedGeneration": "The generation that this is about.",
		"message":            "Why there is nothing to say, if so.",
		"containers":         "Each container of the workload's pods.",
		"checkpoint":         "What was gathered so far, for the controller that comes next.",
	}
}

// ContainerRecommendation is one container.
type ContainerRecommendation struct {
	Name      string              `json:"name"`
	Now       corev1.ResourceList `json:"now,omitempty"`
	Suggested corev1.ResourceList `json:"suggested,omitempty"`
	Samples   int64               `json:"samples,omitempty"`
	OOMKills  int32               `json:"oomKills,omitempty"`
	Since     metav1.Time         `json:"since,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (ContainerRecommendation) SwaggerDoc() map[string]string {
	return map[string]string{
		"":          "ContainerRecommendation is what one container uses, over all pods of the workload.",
		"name":      "The container's.",
		"now":       "What it requests.",
		"suggested": "What it should: the 95th percentile of its CPU and of its memory's peaks, newer ones counting more, and 15 % above.",
		"samples":   "How often it was looked at.",
		"oomKills":  "How often it was seen to be killed for want of memory.",
		"since":     "When it was seen first.",
	}
}

// RecommendationList is a list of Recommendations.
type RecommendationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Recommendation `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (r *Recommendation) DeepCopyObject() runtime.Object {
	if r == nil {
		return nil
	}
	out := *r
	r.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Status.Containers = slices.Clone(r.Status.Containers)
	for i := range out.Status.Containers {
		c := &out.Status.Containers[i]
		c.Now, c.Suggested = c.Now.DeepCopy(), c.Suggested.DeepCopy()
	}
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *RecommendationList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]Recommendation, len(l.Items))
		for i := range l.Items {
			out.Items[i] = *l.Items[i].DeepCopyObject().(*Recommendation)
		}
	}
	return &out
}

func recommendationKind() *Kind {
	return &Kind{
		GroupVersionKind: AutoscalingGroupVersion().WithKind("Recommendation"),
		Resource:         "recommendations", Singular: "recommendation", Namespaced: true,
		New:           func() Object { return &Recommendation{} },
		NewList:       func() runtime.Object { return &RecommendationList{} },
		PrepareCreate: of(func(r *Recommendation) { r.Generation, r.Status = 1, RecommendationStatus{} }),
		PrepareUpdate: pair(func(r, old *Recommendation) {
			r.Status = old.Status
			bump(r, old, r.Spec, old.Spec)
		}),
		Validate: check(func(r *Recommendation) (errs field.ErrorList) {
			at := field.NewPath("spec", "targetRef")
			errs = append(errs, required(r.Spec.TargetRef.Kind, at.Child("kind"), "")...)
			errs = append(errs, required(r.Spec.TargetRef.Name, at.Child("name"), "")...)
			if v := r.Spec.TargetRef.APIVersion; v != "" {
				if _, err := schema.ParseGroupVersion(v); err != nil {
					errs = append(errs, field.Invalid(at.Child("apiVersion"), v, err.Error()))
				}
			}
			return errs
		}),
		Status: &Status{PrepareUpdate: pair(func(r, old *Recommendation) { r.Spec, r.Generation = old.Spec, old.Generation })},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Target", "The workload", 0), column("Container", "Its containers", 0),
			column("Now", "What each requests: CPU and memory", 0), column("Suggested", "What each should", 0), ageColumn(),
			column("Message", "Why there is nothing to say", 1),
		},
		Row: row(recommendationRow),
	}
}

func recommendationRow(r *Recommendation) []any {
	var names, now, suggested []string
	amounts := func(l corev1.ResourceList) string {
		text := func(n corev1.ResourceName) string {
			if q, ok := l[n]; ok {
				return q.String()
			}
			return "-"
		}
		return text(corev1.ResourceCPU) + "/" + text(corev1.ResourceMemory)
	}
	for i := range r.Status.Containers {
		c := &r.Status.Containers[i]
		names, now, suggested = append(names, c.Name), append(now, amounts(c.Now)), append(suggested, amounts(c.Suggested))
	}
	joined := func(l []string) string {
		if len(l) == 0 {
			return "<none>"
		}
		return strings.Join(l, ",")
	}
	return []any{r.Name, r.Spec.TargetRef.Kind + "/" + r.Spec.TargetRef.Name, joined(names), joined(now), joined(suggested), r.CreationTimestamp, r.Status.Message}
}
