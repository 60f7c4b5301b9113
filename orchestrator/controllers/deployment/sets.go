package deployment

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/pintle/pintle/orchestrator/api"
)

// Annotations that kubectl reads, with Kubernetes' names.
const (
	annotationRevision        = "deployment.kubernetes.io/revision"
	annotationRevisionHistory = "deployment.kubernetes.io/revision-history"
	annotationDesired         = "deployment.kubernetes.io/desired-replicas"
	annotationMax             = "deployment.kubernetes.io/max-replicas"
	annotationLastApplied     = "kubectl.kubernetes.io/last-applied-configuration"
	annotationRollback        = "deprecated.deployment.rollback.to"
)

func replicasOf(p *int32) int32 {
	if p == nil {
		return 1
	}
	return *p
}

// fenceposts resolves maxSurge (rounded up) and maxUnavailable (rounded down); both can't be zero.
func fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	n := replicasOf(d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return 0, 0
	}
	quarter := intstr.FromString("25%")
	s, u := &quarter, &quarter
	if ru := d.Spec.Strategy.RollingUpdate; ru != nil {
		if ru.MaxSurge != nil {
			s = ru.MaxSurge
		}
		if ru.MaxUnavailable != nil {
			u = ru.MaxUnavailable
		}
	}
	si, err1 := intstr.GetScaledValueFromIntOrPercent(s, int(n), true)
	ui, err2 := intstr.GetScaledValueFromIntOrPercent(u, int(n), false)
	if err1 != nil || err2 != nil { // validation refuses such objects; stay safe
		si, ui = 1, 0
	}
	if si == 0 && ui == 0 {
		ui = 1
	}
	return int32(min(si, math.MaxInt32-int(n))), int32(min(ui, math.MaxInt32)) // n and the surge are added up
}

func maxUnavailable(d *appsv1.Deployment) int32 {
	n := replicasOf(d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || n == 0 {
		return 0
	}
	_, u := fenceposts(d)
	return min(u, n)
}

// templateHash names a template; collisions (a counter in status) makes another name for the same.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	b, _ := json.Marshal(t) // a decoded API type always encodes
	h.Write(b)
	if collisions != nil {
		fmt.Fprintf(h, "/%d", *collisions)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return apiequality.Semantic.DeepEqual(a, b)
}

func revision(o interface{ GetAnnotations() map[string]string }) int64 {
	n, _ := strconv.ParseInt(o.GetAnnotations()[annotationRevision], 10, 64)
	return n
}

func byAge(a, b *appsv1.ReplicaSet) int {
	if c := a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	switch {
	case a.Name < b.Name:
		return -1
	case a.Name > b.Name:
		return 1
	}
	return 0
}

// split finds the set whose template is d's, and the others, oldest first.
func split(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) {
	sorted := slices.Clone(sets)
	slices.SortFunc(sorted, byAge)
	for _, rs := range sorted {
		if current == nil && rs.DeletionTimestamp == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			current = rs
			continue
		}
		old = append(old, rs)
	}
	return current, old
}

func specTotal(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += replicasOf(rs.Spec.Replicas)
	}
	return n
}

func active(sets []*appsv1.ReplicaSet) (out []*appsv1.ReplicaSet) {
	for _, rs := range sets {
		if replicasOf(rs.Spec.Replicas) > 0 {
			out = append(out, rs)
		}
	}
	return out
}

func setAnnotation(rs *appsv1.ReplicaSet, k, v string) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[k] = v
}

func setSizes(d *appsv1.Deployment, rs *appsv1.ReplicaSet) {
	surge, _ := fenceposts(d)
	n := replicasOf(d.Spec.Replicas)
	setAnnotation(rs, annotationDesired, strconv.Itoa(int(n)))
	setAnnotation(rs, annotationMax, strconv.Itoa(int(n+surge)))
}

// copyAnnotations carries the deployment's annotations over to its newest set, but for those that
// belong to one of them only.
func copyAnnotations(d *appsv1.Deployment, rs *appsv1.ReplicaSet) {
	for k, v := range d.Annotations {
		switch k {
		case annotationLastApplied, annotationRevision, annotationRevisionHistory, annotationDesired, annotationMax,
			annotationRollback, api.AnnotationAutoRollback, api.AnnotationRolledBackFrom:
		default:
			setAnnotation(rs, k, v)
		}
	}
}

// newSet makes the set of d's template; its size is the caller's.
func newSet(d *appsv1.Deployment, rev int64) *appsv1.ReplicaSet {
	hash := templateHash(&d.Spec.Template, d.Status.CollisionCount)
	rs := &appsv1.ReplicaSet{}
	rs.APIVersion, rs.Kind = "apps/v1", "ReplicaSet"
	rs.Namespace, rs.Name = d.Namespace, d.Name+"-"+hash
	rs.Spec.Template = *d.Spec.Template.DeepCopy()
	rs.Spec.Template.Labels = maps.Clone(rs.Spec.Template.Labels)
	if rs.Spec.Template.Labels == nil {
		rs.Spec.Template.Labels = map[string]string{}
	}
	rs.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	rs.Labels = maps.Clone(rs.Spec.Template.Labels)
	rs.Spec.Selector = d.Spec.Selector.DeepCopy()
	if rs.Spec.Selector.MatchLabels == nil {
		rs.Spec.Selector.MatchLabels = map[string]string{}
	}
	rs.Spec.Selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	rs.Spec.MinReadySeconds = d.Spec.MinReadySeconds
	copyAnnotations(d, rs)
	setAnnotation(rs, annotationRevision, strconv.FormatInt(rev, 10))
	setSizes(d, rs)
	return rs
}

// refreshed returns rs with the annotations and settings that the newest set must have, and
// whether its revision was raised (it came back from history).
func refreshed(d *appsv1.Deployment, rs *appsv1.ReplicaSet, rev int64) (out *appsv1.ReplicaSet, bumped bool) {
	out = rs.DeepCopy()
	copyAnnotations(d, out)
	if have := revision(rs); have < rev {
		bumped = true
		if have > 0 {
			h := out.Annotations[annotationRevisionHistory]
			if h != "" {
				h += ","
			}
			setAnnotation(out, annotationRevisionHistory, h+strconv.FormatInt(have, 10))
		}
		setAnnotation(out, annotationRevision, strconv.FormatInt(rev, 10))
	}
	out.Spec.MinReadySeconds = d.Spec.MinReadySeconds
	return out, bumped
}

// proportional distributes a change of d's size over the sets that run, by their share; what
// rounding leaves goes to the largest.
func proportional(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) map[string]int32 {
	n := replicasOf(d.Spec.Replicas)
	surge, _ := fenceposts(d)
	var allowed int32
	if n > 0 {
		allowed = n + surge
	}
	toAdd := allowed - specTotal(sets)
	sets = slices.Clone(sets)
	sort.SliceStable(sets, func(i, j int) bool {
		a, b := replicasOf(sets[i].Spec.Replicas), replicasOf(sets[j].Spec.Replicas)
		if a != b {
			return a > b
		}
		if toAdd > 0 {
			return byAge(sets[i], sets[j]) > 0
		}
		return byAge(sets[i], sets[j]) < 0
	})
	sizes := map[string]int32{}
	var added int32
	for _, rs := range sets {
		size := replicasOf(rs.Spec.Replicas)
		if left := toAdd - added; size != 0 && toAdd != 0 && left != 0 {
			f := fraction(d, rs, n, surge)
			if toAdd > 0 {
				f = min(f, left)
			} else {
				f = max(f, left)
			}
			size += f
			added += f
		}
		sizes[rs.Name] = size
	}
	if len(sets) > 0 && toAdd != 0 {
		sizes[sets[0].Name] = max(0, sizes[sets[0].Name]+toAdd-added)
	}
	return sizes
}

func fraction(d *appsv1.Deployment, rs *appsv1.ReplicaSet, n, surge int32) int32 {
	have := replicasOf(rs.Spec.Replicas)
	if n == 0 {
		return -have
	}
	before, err := strconv.ParseInt(rs.Annotations[annotationMax], 10, 32)
	if err != nil || before <= 0 {
		before = int64(d.Status.Replicas)
		if before == 0 {
			return 0
		}
	}
	return int32(math.Round(float64(have)*float64(n+surge)/float64(before))) - have
}

// available counts the pods of rs that serve now and that stay when rs has its spec's size. It
// looks at pods rather than at rs.Status, which lags behind spec: counted from status, a set that
// was just scaled down would still seem to hold its pods, and the floor could be broken.
func available(rs *appsv1.ReplicaSet, minReady int32, pods map[string][]*corev1.Pod, now time.Time) int32 {
	var n int32
	for _, p := range pods[string(rs.UID)] {
		if podAvailable(p, minReady, now) {
			n++
		}
	}
	return min(n, replicasOf(rs.Spec.Replicas))
}
