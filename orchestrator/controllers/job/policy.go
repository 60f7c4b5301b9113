package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// match is the rule that a failed pod met; the zero match is that there was none: it counts.
type match struct {
	action  batchv1.PodFailurePolicyAction
	message string // what a person should know when the Job fails by it
}

// matchFailurePolicy finds the first rule of https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
// that the pod meets. Rules whose action or operator isn't known are passed over.
func matchFailurePolicy(policy *batchv1.PodFailurePolicy, p *corev1.Pod) match {
	if policy == nil {
		return match{}
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		switch rule.Action {
		case batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob:
		default:
			continue
		}
		if rule.OnExitCodes != nil {
			if c := matchExitCodes(rule.OnExitCodes, p); c != nil {
				return match{rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching %s rule at index %d",
					c.Name, p.Namespace, p.Name, c.State.Terminated.ExitCode, rule.Action, i)}
			}
		} else if c := matchConditions(rule.OnPodConditions, p); c != nil {
			return match{rule.Action, fmt.Sprintf("Pod %s/%s has condition %s matching %s rule at index %d", p.Namespace, p.Name, c.Type, rule.Action, i)}
		}
	}
	return match{}
}

// matchExitCodes is the first container that failed as the requirement says. One that ended well never does.
func matchExitCodes(want *batchv1.PodFailurePolicyOnExitCodesRequirement, p *corev1.Pod) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 || want.ContainerName != nil && *want.ContainerName != c.Name {
				continue
			}
			in := slices.Contains(want.Values, c.State.Terminated.ExitCode)
			if in && want.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn || !in && want.Operator == batchv1.PodFailurePolicyOnExitCodesOpNotIn {
				return c
			}
		}
	}
	return nil
}

func matchConditions(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		c := &p.Status.Conditions[i]
		for _, want := range patterns {
			status := want.Status
			if status == "" {
				status = corev1.ConditionTrue
			}
			if c.Type == want.Type && c.Status == status {
				return c
			}
		}
	}
	return nil
}

// metSuccessPolicy says by which rule enough indexes have succeeded.
func metSuccessPolicy(policy *batchv1.SuccessPolicy, completed api.Indexes) (message string, met bool) {
	if policy == nil {
		return "", false
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		have, want := completed.Len(), 0
		if rule.SucceededIndexes != nil {
			among, err := api.ParseIndexes(*rule.SucceededIndexes, 1<<31)
			if err != nil {
				continue
			}
			have, want = among.Common(completed), among.Len()
		}
		if rule.SucceededCount != nil {
			want = int(*rule.SucceededCount)
		}
		if want > 0 && have >= want {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}
