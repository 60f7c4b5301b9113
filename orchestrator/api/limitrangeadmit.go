package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// limitRangerAnnotation tells people where a pod's requests and limits come from.
const limitRangerAnnotation = "kubernetes.io/limit-ranger"

func one() *resource.Quantity { return resource.NewQuantity(1, resource.DecimalSI) }

// AdmitLimitDefaults gives a new pod's containers the requests and limits that its namespace's LimitRanges say, where
// they name none. Done again, it changes nothing.
func AdmitLimitDefaults(pod *corev1.Pod, ranges []*corev1.LimitRange) {
	var told []string
	for _, r := range ranges {
		requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
		for i := range r.Spec.Limits {
			if item := &r.Spec.Limits[i]; item.Type == corev1.LimitTypeContainer {
				maps.Copy(requests, item.DefaultRequest)
				maps.Copy(limits, item.Default)
			}
		}
		for _, kind := range []struct {
			list []corev1.Container
			name string
		}{{pod.Spec.Containers, "container"}, {pod.Spec.InitContainers, "init container"}} {
			for i := range kind.list {
				c := &kind.list[i]
				if set := fillResources(&c.Resources.Requests, requests); len(set) > 0 {
					told = append(told, strings.Join(set, ", ")+" request for "+kind.name+" "+c.Name)
				}
				if set := fillResources(&c.Resources.Limits, limits); len(set) > 0 {
					told = append(told, strings.Join(set, ", ")+" limit for "+kind.name+" "+c.Name)
				}
			}
		}
	}
	if len(told) > 0 {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[limitRangerAnnotation] = "LimitRanger plugin set: " + strings.Join(told, "; ")
	}
}

func fillResources(to *corev1.ResourceList, from corev1.ResourceList) (set []string) {
	for name, q := range inOrder(from) {
		if _, ok := (*to)[name]; ok {
			continue
		}
		if *to == nil {
			*to = corev1.ResourceList{}
		}
		(*to)[name] = q.DeepCopy()
		set = append(set, string(name))
	}
	return set
}

// CheckLimits says what of a pod or a claim its namespace's LimitRanges don't allow.
func CheckLimits(obj Object, ranges []*corev1.LimitRange) error {
	var problems []string
	for _, r := range ranges {
		for i := range r.Spec.Limits {
			item := &r.Spec.Limits[i]
			switch o := obj.(type) {
			case *corev1.Pod:
				switch item.Type {
				case corev1.LimitTypeContainer:
					for _, list := range [][]corev1.Container{o.Spec.Containers, o.Spec.InitContainers} {
						for j := range list {
							problems = append(problems, checkLimits(item, list[j].Resources.Requests, list[j].Resources.Limits)...)
						}
					}
				case corev1.LimitTypePod:
					problems = append(problems, checkLimits(item, PodRequests(o), PodLimits(o))...)
				}
			case *corev1.PersistentVolumeClaim:
				if item.Type == corev1.LimitTypePersistentVolumeClaim {
					// A claim has no limit: its request stands for both.
					claim := *item
					claim.MaxLimitRequestRatio = nil
					problems = append(problems, checkLimits(&claim, o.Spec.Resources.Requests, o.Spec.Resources.Requests)...)
				}
			}
		}
	}
	problems = slices.Compact(problems)
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return errors.New(problems[0])
	}
	return errors.New("[" + strings.Join(problems, ", ") + "]")
}

func checkLimits(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for name, least := range inOrder(item.Min) {
		request, requested := requests[name]
		limit, limited := limits[name]
		if item.Type == corev1.LimitTypePersistentVolumeClaim && name != corev1.ResourceStorage {
			continue
		}
		switch {
		case !requested:
			say("minimum %s usage per %s is %s.  No request is specified", name, item.Type, least.String())
		case request.Cmp(least) < 0:
			say("minimum %s usage per %s is %s, but request is %s", name, item.Type, least.String(), request.String())
		case limited && limit.Cmp(least) < 0:
			say("minimum %s usage per %s is %s, but limit is %s", name, item.Type, least.String(), limit.String())
		}
	}
	for name, most := range inOrder(item.Max) {
		request, requested := requests[name]
		limit, limited := limits[name]
		if item.Type == corev1.LimitTypePersistentVolumeClaim {
			switch {
			case name != corev1.ResourceStorage:
			case !requested:
				say("maximum %s usage per %s is %s.  No request is specified", name, item.Type, most.String())
			case request.Cmp(most) > 0:
				say("maximum %s usage per %s is %s, but request is %s", name, item.Type, most.String(), request.String())
			}
			continue
		}
		switch {
		case !limited:
			say("maximum %s usage per %s is %s.  No limit is specified", name, item.Type, most.String())
		case limit.Cmp(most) > 0:
			say("maximum %s usage per %s is %s, but limit is %s", name, item.Type, most.String(), limit.String())
		case requested && request.Cmp(most) > 0:
			say("maximum %s usage per %s is %s, but request is %s", name, item.Type, most.String(), request.String())
		}
	}
	for name, most := range inOrder(item.MaxLimitRequestRatio) {
		request, limit := requests[name], limits[name]
		switch {
		case request.IsZero():
			say("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, item.Type, most.String())
		case limit.IsZero():
			say("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, item.Type, most.String())
		default:
			if ratio := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); ratio > most.AsApproximateFloat64() {
				say("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, item.Type, most.String(), ratio)
			}
		}
	}
	return problems
}
