package api

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// SchedulingGroupVersion is the group of what the scheduler is told beside Kubernetes' own kinds.
func SchedulingGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "scheduling.pintle.dev", Version: "v1alpha1"}
}

// Queue shares the cluster between namespaces: it is what pods of its namespaces may use together.
type Queue struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   QueueSpec   `json:"spec,omitempty"`
	Status QueueStatus `json:"status,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (Queue) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "Queue is what the pods of some namespaces may use together. A pod or gang that its queue has no quota left for waits.",
		"spec":   "Whose it is, and how much.",
		"status": "What is used and waited for.",
	}
}

// QueueSpec says whose a queue is, and how much they may use.
type QueueSpec struct {
	Namespaces        []string              `json:"namespaces,omitempty"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	NominalQuota      corev1.ResourceList   `json:"nominalQuota,omitempty"`
	BorrowingLimit    corev1.ResourceList   `json:"borrowingLimit,omitempty"`
	Cohort            string                `json:"cohort,omitempty"`
	Weight            int32                 `json:"weight,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (QueueSpec) SwaggerDoc() map[string]string {
	return map[string]string{
		"":           "QueueSpec says whose a queue is, and how much they may use.",
		"namespaces": "Names of namespaces. A queue that names a namespace goes before one that selects it; of several the first by name counts.",
		"namespaceSelector": "Selects namespaces by label; empty selects all. With neither this nor namespaces the queue is the one of the namespace " +
			"that has its name.",
		"nominalQuota": "What the queue's pods may request together, by resource, and take back from borrowers when they need it. " +
			"What is not named is not limited.",
		"borrowingLimit": "How much more than its quota they may use while others of the cohort leave it unused, by resource. What is not named has no limit.",
		"cohort":         "The queues of one cohort lend each other what they don't use. Empty: the queue lends and borrows nothing.",
		"weight":         "Of the cohort's queues, the one whose dominant share of the cohort's quota divided by its weight is least goes next: 1 to 1000. Default 1.",
	}
}

// QueueStatus is what a queue's pods use and wait for.
type QueueStatus struct {
	ObservedGeneration int64               `json:"observedGeneration,omitempty"`
	AdmittedPods       int32               `json:"admittedPods,omitempty"`
	PendingPods        int32               `json:"pendingPods,omitempty"`
	Admitted           corev1.ResourceList `json:"admitted,omitempty"`
	Pending            corev1.ResourceList `json:"pending,omitempty"`
	Borrowed           corev1.ResourceList `json:"borrowed,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (QueueStatus) SwaggerDoc() map[string]string {
	return map[string]string{
		"":                   "QueueStatus is what a queue's pods use and wait for, of the resources that it limits.",
		"observedGeneration": "The generation of the queue that this is about.",
		"admittedPods":       "How many pods have nodes.",
		"pendingPods":        "How many wait for one.",
		"admitted":           "What those that have nodes request.",
		"pending":            "What those that wait request.",
		"borrowed":           "How much of what is admitted is above the quota.",
	}
}

// QueueList is a list of Queues.
type QueueList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Queue `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (q *Queue) DeepCopyObject() runtime.Object {
	if q == nil {
		return nil
	}
	out := *q
	q.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Namespaces = slices.Clone(q.Spec.Namespaces)
	out.Spec.NamespaceSelector = q.Spec.NamespaceSelector.DeepCopy()
	out.Spec.NominalQuota, out.Spec.BorrowingLimit = q.Spec.NominalQuota.DeepCopy(), q.Spec.BorrowingLimit.DeepCopy()
	out.Status.Admitted, out.Status.Pending = q.Status.Admitted.DeepCopy(), q.Status.Pending.DeepCopy()
	out.Status.Borrowed = q.Status.Borrowed.DeepCopy()
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *QueueList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]Queue, len(l.Items))
		for i := range l.Items {
			out.Items[i] = *l.Items[i].DeepCopyObject().(*Queue)
		}
	}
	return &out
}

func queueKind() *Kind {
	return &Kind{
		GroupVersionKind: SchedulingGroupVersion().WithKind("Queue"),
		Resource:         "queues", Singular: "queue",
		New:           func() Object { return &Queue{} },
		NewList:       func() runtime.Object { return &QueueList{} },
		Default:       of(func(q *Queue) { setZero(&q.Spec.Weight, 1) }),
		PrepareCreate: of(func(q *Queue) { q.Generation, q.Status = 1, QueueStatus{} }),
		PrepareUpdate: pair(func(q, old *Queue) {
			q.Status = old.Status
			bump(q, old, q.Spec, old.Spec)
		}),
		Validate: check(validateQueue),
		Status: &Status{
			PrepareUpdate: pair(func(q, old *Queue) { q.Spec, q.Generation = old.Spec, old.Generation }),
			ValidateUpdate: checkPair(func(q, _ *Queue) (errs field.ErrorList) {
				at := field.NewPath("status")
				errs = append(errs, nonNegative(int64(q.Status.AdmittedPods), at.Child("admittedPods"))...)
				return append(errs, nonNegative(int64(q.Status.PendingPods), at.Child("pendingPods"))...)
			}),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Cohort", "The queues that lend each other what they don't use", 0),
			typed(column("Weight", "Of its share", 0), "integer"), typed(column("Admitted", "Pods that have nodes", 0), "integer"),
			typed(column("Pending", "Pods that wait", 0), "integer"), column("Used", "What is used of the quota", 0), ageColumn(),
			column("Namespaces", "Whose pods these are", 1),
		},
		Row: row(queueRow),
	}
}

func queueRow(q *Queue) []any {
	cohort := q.Spec.Cohort
	if cohort == "" {
		cohort = "<none>"
	}
	var used []string
	for name, quota := range inOrder(q.Spec.NominalQuota) {
		have := q.Status.Admitted[name]
		used = append(used, fmt.Sprintf("%s %s/%s", name, have.String(), quota.String()))
	}
	if used == nil {
		used = []string{"<none>"}
	}
	namespaces := q.Spec.Namespaces
	if s := q.Spec.NamespaceSelector; s != nil {
		namespaces = append(slices.Clip(namespaces), "("+metav1.FormatLabelSelector(s)+")")
	}
	if namespaces == nil {
		namespaces = []string{q.Name}
	}
	return []any{q.Name, cohort, int64(q.Spec.Weight), int64(q.Status.AdmittedPods), int64(q.Status.PendingPods), strings.Join(used, ","),
		q.CreationTimestamp, strings.Join(namespaces, ",")}
}

func validateQueue(q *Queue) (errs field.ErrorList) {
	s, at := &q.Spec, field.NewPath("spec")
	seen := map[string]bool{}
	for i, name := range s.Namespaces {
		where := at.Child("namespaces").Index(i)
		errs = append(errs, invalid(validation.IsDNS1123Label(name), where, name)...)
		if seen[name] {
			errs = append(errs, field.Duplicate(where, name))
		}
		seen[name] = true
	}
	if s.NamespaceSelector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(s.NamespaceSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("namespaceSelector"))...)
	}
	errs = append(errs, validateResourceList(s.NominalQuota, at.Child("nominalQuota"))...)
	errs = append(errs, validateResourceList(s.BorrowingLimit, at.Child("borrowingLimit"))...)
	for name := range inOrder(s.BorrowingLimit) {
		where := at.Child("borrowingLimit").Key(string(name))
		if _, ok := s.NominalQuota[name]; !ok {
			errs = append(errs, field.Invalid(where, string(name), "must have a nominalQuota, which may be 0"))
		}
	}
	if len(s.BorrowingLimit) > 0 && s.Cohort == "" {
		errs = append(errs, field.Forbidden(at.Child("borrowingLimit"), "a queue without a cohort borrows nothing"))
	}
	if s.Cohort != "" {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(s.Cohort), at.Child("cohort"), s.Cohort)...)
	}
	if s.Weight < 1 || s.Weight > 1000 {
		errs = append(errs, field.Invalid(at.Child("weight"), s.Weight, "must be between 1 and 1000"))
	}
	return errs
}
