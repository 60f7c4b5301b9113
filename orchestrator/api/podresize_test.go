package api

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func resources(pairs ...string) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for i := 0; i < len(pairs); i += 2 {
		list, name, _ := strings.Cut(pairs[i], ".")
		into := r.Requests
		if list == "limits" {
			into = r.Limits
		}
		into[corev1.ResourceName(name)] = resource.MustParse(pairs[i+1])
	}
	return r
}

func resizePod(r corev1.ResourceRequirements) *corev1.Pod {
	p := &corev1.Pod{}
	p.Name, p.Namespace = "p", "default"
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: r}}
	podKind().Default(p)
	podKind().PrepareCreate(p)
	return p
}

func TestAResizeChangesCPUAndMemoryAlone(t *testing.T) {
	guaranteed := resources("requests.cpu", "700m", "limits.cpu", "700m", "requests.memory", "200Mi", "limits.memory", "200Mi")
	burstable := resources("requests.cpu", "500m")
	for name, c := range map[string]struct {
		from, to corev1.ResourceRequirements
		edit     func(*corev1.Pod)
		refused  string
	}{
		"documented":             {from: guaranteed, to: resources("requests.cpu", "800m", "limits.cpu", "800m", "requests.memory", "200Mi", "limits.memory", "200Mi")},
		"memory down":            {from: guaranteed, to: resources("requests.cpu", "700m", "limits.cpu", "700m", "requests.memory", "100Mi", "limits.memory", "100Mi")},
		"a limit more":           {from: burstable, to: resources("requests.cpu", "500m", "limits.cpu", "1")},
		"memory too":             {from: burstable, to: resources("requests.cpu", "500m", "requests.memory", "1Gi")},
		"another class":          {from: guaranteed, to: resources("requests.cpu", "600m", "limits.cpu", "700m", "requests.memory", "200Mi", "limits.memory", "200Mi"), refused: "Pod QOS Class may not change as a result of resizing"},
		"best effort stays":      {from: resources(), to: burstable, refused: "Pod QOS Class may not change"},
		"a request less":         {from: resources("requests.cpu", "1", "requests.memory", "1Gi"), to: resources("requests.cpu", "1"), refused: "resource requests cannot be removed"},
		"a limit less":           {from: resources("requests.cpu", "1", "limits.memory", "1Gi", "requests.memory", "1Gi"), to: resources("requests.cpu", "1", "requests.memory", "1Gi"), refused: "resource limits cannot be removed"},
		"storage":                {from: burstable, to: resources("requests.cpu", "500m", "requests.ephemeral-storage", "1Gi"), refused: "only cpu and memory resources are mutable"},
		"below its request":      {from: resources("requests.cpu", "1", "limits.cpu", "2"), to: resources("requests.cpu", "3", "limits.cpu", "2"), refused: "must be less than or equal to cpu limit"},
		"the rest is left alone": {from: burstable, to: resources("requests.cpu", "1"), edit: func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other"; p.Labels = map[string]string{"a": "b"} }},
		"its policy": {from: burstable, to: burstable, refused: "only cpu and memory resources are mutable", edit: func(p *corev1.Pod) {
			p.Spec.Containers[0].ResizePolicy[0].RestartPolicy = corev1.RestartContainer
		}},
	} {
		t.Run(name, func(t *testing.T) {
			old := resizePod(c.from)
			now := old.DeepCopy()
			now.Spec.Containers[0].Resources = c.to
			if c.edit != nil {
				c.edit(now)
			}
			k := podKind()
			k.Default(now)
			k.Resize.PrepareUpdate(now, old)
			errs := append(k.Resize.ValidateUpdate(now, old), k.Validate(now)...)
			if got := errs.ToAggregate(); (got == nil) != (c.refused == "") || got != nil && !strings.Contains(got.Error(), c.refused) {
				t.Fatalf("errors %v, want %q", got, c.refused)
			}
			if c.refused != "" {
				return
			}
			if now.Spec.Containers[0].Image != "i" || !equal(now.Spec.Containers[0].Resources, c.to) || now.Generation != 2 {
				t.Errorf("stored %+v, generation %d", now.Spec.Containers[0], now.Generation)
			}
		})
	}
}

func TestAnOrdinaryUpdateOfResourcesSaysHowToResize(t *testing.T) {
	old := resizePod(resources("requests.cpu", "500m"))
	now := old.DeepCopy()
	now.Spec.Containers[0].Resources = resources("requests.cpu", "1")
	err := podKind().ValidateUpdate(now, old).ToAggregate()
	if err == nil || err.Error() != "spec.containers[0].resources: Forbidden: cpu and memory change through the resize subresource alone: kubectl patch pod p --subresource resize" {
		t.Fatal(err)
	}
}

// A pod that an earlier version stored has no policies.
func TestAPodWithoutPoliciesCanBeUpdatedAndResized(t *testing.T) {
	old := resizePod(resources("requests.cpu", "500m"))
	old.Spec.Containers[0].ResizePolicy = nil
	now := old.DeepCopy()
	now.Labels = map[string]string{"a": "b"}
	k := podKind()
	k.Default(now)
	if err := k.ValidateUpdate(now, old).ToAggregate(); err != nil {
		t.Error(err)
	}
	now.Spec.Containers[0].Resources = resources("requests.cpu", "1")
	k.Resize.PrepareUpdate(now, old)
	if err := k.Resize.ValidateUpdate(now, old).ToAggregate(); err != nil {
		t.Error(err)
	}
}

func TestAResizePolicyIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		policies []corev1.ContainerResizePolicy
		never    bool
		refused  string
	}{
		"both":      {policies: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}, {ResourceName: "memory", RestartPolicy: "RestartContainer"}}},
		"twice":     {policies: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}, {ResourceName: "cpu", RestartPolicy: "NotRequired"}}, refused: "Duplicate value"},
		"other":     {policies: []corev1.ContainerResizePolicy{{ResourceName: "ephemeral-storage", RestartPolicy: "NotRequired"}}, refused: `supported values: "cpu", "memory"`},
		"unknown":   {policies: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "Maybe"}}, refused: `supported values: "NotRequired", "RestartContainer"`},
		"no policy": {policies: []corev1.ContainerResizePolicy{{ResourceName: "cpu"}}, refused: "Required value"},
		"never":     {never: true, policies: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "RestartContainer"}}, refused: "must be 'NotRequired' when `restartPolicy` is 'Never'"},
	} {
		t.Run(name, func(t *testing.T) {
			p := resizePod(resources("requests.cpu", "1"))
			p.Spec.Containers[0].ResizePolicy = c.policies
			if c.never {
				p.Spec.RestartPolicy = corev1.RestartPolicyNever
			}
			err := podKind().Validate(p).ToAggregate()
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("errors %v, want %q", err, c.refused)
			}
		})
	}
}
