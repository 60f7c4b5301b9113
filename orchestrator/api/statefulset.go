package api

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func statefulSetKind() *Kind {
	return &Kind{
		GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Resource:         "statefulsets", Singular: "statefulset", ShortNames: []string{"sts"}, Categories: []string{"all"}, Namespaced: true,
		New:     func() Object { return &appsv1.StatefulSet{} },
		NewList: func() runtime.Object { return &appsv1.StatefulSetList{} },
		Default: of(defaultStatefulSet),
		PrepareCreate: of(func(s *appsv1.StatefulSet) {
			s.Status, s.Generation = appsv1.StatefulSetStatus{}, 1
			dropClaimStatus(s)
		}),
		PrepareUpdate: pair(func(s, old *appsv1.StatefulSet) {
			s.Status = old.Status
			dropClaimStatus(s)
			bump(s, old, s.Spec, old.Spec)
		}),
		Validate:       check(validateStatefulSet),
		ValidateUpdate: checkPair(validateStatefulSetUpdate),
		// The name becomes part of host names.
		ValidName: validation.IsDNS1123Label,
		Status: &Status{PrepareUpdate: pair(func(s, old *appsv1.StatefulSet) {
			s.Spec, s.Labels, s.Generation = old.Spec, old.Labels, old.Generation
		})},
		Scale: &Scale{
			SpecReplicas:   func(o Object) int32 { return replicas(o.(*appsv1.StatefulSet).Spec.Replicas) },
			StatusReplicas: func(o Object) int32 { return o.(*appsv1.StatefulSet).Status.Replicas },
			Selector:       func(o Object) string { return metav1.FormatLabelSelector(o.(*appsv1.StatefulSet).Spec.Selector) },
			SetReplicas:    func(o Object, n int32) { o.(*appsv1.StatefulSet).Spec.Replicas = &n },
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Ready", "Number of the pod with ready state", 0), ageColumn(),
			column("Containers", "Names of each container in the template.", 1), column("Images", "Images referenced by each container in the template.", 1),
		},
		Row: row(func(s *appsv1.StatefulSet) []any {
			names, images := containerCells(s.Spec.Template.Spec.Containers)
			return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, replicas(s.Spec.Replicas)), s.CreationTimestamp, names, images}
		}),
	}
}

// dropClaimStatus clears what the templates of claims say of a claim's state: a template has none.
func dropClaimStatus(s *appsv1.StatefulSet) {
	for i := range s.Spec.VolumeClaimTemplates {
		s.Spec.VolumeClaimTemplates[i].Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	}
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	setZero(&s.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	setZero(&s.Spec.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	if s.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		if s.Spec.UpdateStrategy.RollingUpdate == nil {
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
		setDefault(&s.Spec.UpdateStrategy.RollingUpdate.Partition, 0)
		setDefault(&s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	if s.Spec.PersistentVolumeClaimRetentionPolicy == nil {
		s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	setZero(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	setZero(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	setDefault(&s.Spec.Replicas, 1)
	setDefault(&s.Spec.RevisionHistoryLimit, 10)
	defaultPodSpec(&s.Spec.Template.Spec)
	for i := range s.Spec.VolumeClaimTemplates {
		c := &s.Spec.VolumeClaimTemplates[i]
		defaultClaimSpec(&c.Spec)
		setZero(&c.Status.Phase, corev1.ClaimPending)
	}
}

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateSelectorAndTemplate(s.Spec.Selector, withClaims(s), spec)
	errs = append(errs, validateClaimTemplates(s.Spec.VolumeClaimTemplates, spec.Child("volumeClaimTemplates"))...)
	errs = append(errs, nonNegative(int64(replicas(s.Spec.Replicas)), spec.Child("replicas"))...)
	errs = append(errs, nonNegative(int64(s.Spec.MinReadySeconds), spec.Child("minReadySeconds"))...)
	if h := s.Spec.RevisionHistoryLimit; h != nil {
		errs = append(errs, nonNegative(int64(*h), spec.Child("revisionHistoryLimit"))...)
	}
	if o := s.Spec.Ordinals; o != nil {
		errs = append(errs, nonNegative(int64(o.Start), spec.Child("ordinals", "start"))...)
	}
	if s.Spec.ServiceName != "" {
		errs = append(errs, invalid(validation.IsDNS1123Label(s.Spec.ServiceName), spec.Child("serviceName"), s.Spec.ServiceName)...)
	}
	errs = append(errs, oneOf(s.Spec.PodManagementPolicy, []appsv1.PodManagementPolicyType{appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement},
		spec.Child("podManagementPolicy"))...)
	if p := s.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		at := spec.Child("persistentVolumeClaimRetentionPolicy")
		known := []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
		errs = append(errs, oneOf(p.WhenDeleted, known, at.Child("whenDeleted"))...)
		errs = append(errs, oneOf(p.WhenScaled, known, at.Child("whenScaled"))...)
	}
	errs = append(errs, validateRollbackAnnotations(s.Annotations, s.Spec.MinReadySeconds)...)
	strategy := spec.Child("updateStrategy")
	switch s.Spec.UpdateStrategy.Type {
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.Spec.UpdateStrategy.RollingUpdate != nil {
			errs = append(errs, field.Invalid(strategy.Child("rollingUpdate"), s.Spec.UpdateStrategy.RollingUpdate, "only allowed for updateStrategy 'RollingUpdate'"))
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if r := s.Spec.UpdateStrategy.RollingUpdate; r != nil {
			at := strategy.Child("rollingUpdate")
			if r.Partition != nil {
				errs = append(errs, nonNegative(int64(*r.Partition), at.Child("partition"))...)
			}
			if r.MaxUnavailable != nil {
				problems := validateShare(r.MaxUnavailable, at.Child("maxUnavailable"))
				if len(problems) == 0 && isZero(r.MaxUnavailable) {
					problems = append(problems, field.Invalid(at.Child("maxUnavailable"), r.MaxUnavailable, "cannot be 0"))
				}
				errs = append(errs, problems...)
			}
		}
	case appsv1.RecreateStatefulSetStrategyType:
		errs = append(errs, unsupported(strategy.Child("type"), "Recreate is an alpha type of Kubernetes; scale to 0 and back, or use Parallel with maxUnavailable 100%"))
	default:
		errs = append(errs, oneOf(s.Spec.UpdateStrategy.Type, []appsv1.StatefulSetUpdateStrategyType{appsv1.OnDeleteStatefulSetStrategyType,
			appsv1.RollingUpdateStatefulSetStrategyType}, strategy.Child("type"))...)
	}
	return errs
}

// withClaims is the template as a pod gets it: the claims' volumes stand in the place of those of the same name,
// so that mounts find them.
func withClaims(s *appsv1.StatefulSet) *corev1.PodTemplateSpec {
	if len(s.Spec.VolumeClaimTemplates) == 0 {
		return &s.Spec.Template
	}
	t := s.Spec.Template
	t.Spec.Volumes = slices.Clone(t.Spec.Volumes)
	for i := range s.Spec.VolumeClaimTemplates {
		name := s.Spec.VolumeClaimTemplates[i].Name
		if name == "" || slices.ContainsFunc(t.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name }) {
			continue
		}
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	return &t
}

// validateClaimTemplates checks the claims now, and not only when the first pod comes: templates can't be changed.
func validateClaimTemplates(claims []corev1.PersistentVolumeClaim, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i := range claims {
		c, at := &claims[i], path.Index(i)
		errs = append(errs, required(c.Name, at.Child("metadata", "name"), "")...)
		if c.Name != "" {
			errs = append(errs, invalid(validation.IsDNS1123Label(c.Name), at.Child("metadata", "name"), c.Name)...)
		}
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("metadata", "name"), c.Name))
		}
		seen[c.Name] = true
		errs = append(errs, validateLabels(c.Labels, at.Child("metadata", "labels"))...)
		errs = append(errs, validateClaimSpec(&c.Spec, at.Child("spec"))...)
	}
	return errs
}

func validateStatefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	now := s.Spec.DeepCopy()
	now.Replicas, now.Template, now.UpdateStrategy, now.MinReadySeconds = old.Spec.Replicas, old.Spec.Template, old.Spec.UpdateStrategy, old.Spec.MinReadySeconds
	now.Ordinals, now.RevisionHistoryLimit = old.Spec.Ordinals, old.Spec.RevisionHistoryLimit
	now.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equal(*now, old.Spec) {
		return field.ErrorList{field.Forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "+
			"'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")}
	}
	return nil
}
