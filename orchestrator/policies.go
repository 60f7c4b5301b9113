package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/policy"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
)

func (p *parts) newPolicies() (err error) {
	if p.cfg.Policies == nil {
		return nil
	}
	p.policies, err = policy.New(policy.Config{
		Host: p.cfg.Policies, Image: p.cfg.PolicyImage, Embedded: p.cfg.PolicyFiles,
		Logger: p.cfg.Logger.With("part", "policies"), Metrics: p.metrics.Registerer(), Clock: p.cfg.Clock,
	})
	if err != nil {
		return fmt.Errorf("orchestrator: %w", err)
	}
	return nil
}

// policyClient is how policies read and write their own objects, which no policy is asked about.
func (p *parts) policyClient() *registry.Client {
	return p.registry.Client("system:pintle:policies", "system:masters")
}

func (p *parts) runPolicies(ctx context.Context) error { return p.policies.Run(ctx, p.policyClient()) }

// admitter is everybody who is asked about writes; nil where nobody is.
func (p *parts) admitter() registry.Admitter {
	switch {
	case p.policies == nil:
		return p.cfg.Admission
	case p.cfg.Admission == nil:
		return p.policies
	}
	return both{p.cfg.Admission, p.policies}
}

type both [2]registry.Admitter

func (b both) Admit(ctx context.Context, req registry.Request) error {
	if err := b[0].Admit(ctx, req); err != nil {
		return err
	}
	return b[1].Admit(ctx, req)
}

func (p *parts) schedulerPolicy() scheduler.Policy {
	if p.cfg.Policy == nil && p.policies != nil {
		return p.policies
	}
	return p.cfg.Policy
}

// policiesRead waits until the stored policies are known, so that nothing is scheduled without them. It doesn't wait
// for their modules. false: ctx has ended.
func (p *parts) policiesRead(ctx context.Context) bool {
	if p.policies == nil {
		return true
	}
	select {
	case <-p.policies.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}

// Lookup reads an object of the cluster as JSON, from this member's cache, by "group/version/resource/namespace/name":
// nil if there is none. With an empty name it is the list of all in the namespace, and with an empty namespace, too, of
// all there are. It is what policies.Config.Lookup asks for. It is an error while Run doesn't run.
func (o *Orchestrator) Lookup(ctx context.Context, name string) ([]byte, error) {
	p := o.running()
	if p == nil {
		return nil, fmt.Errorf("orchestrator: look up %s: the control plane doesn't run", name)
	}
	parts := strings.Split(name, "/")
	if len(parts) != 5 {
		return nil, fmt.Errorf("orchestrator: look up %q: give group/version/resource/namespace/name", name)
	}
	gvr := schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]}
	kind := p.registry.Kind(gvr)
	if kind == nil {
		return nil, nil
	}
	if parts[4] != "" {
		entry, err := p.registry.Get(ctx, gvr, parts[3], parts[4])
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return entry.JSON(), nil
	}
	found, err := p.registry.List(ctx, gvr, parts[3], registry.ListOptions{})
	if err != nil {
		return nil, err
	}
	list := struct {
		metav1.TypeMeta `json:",inline"`
		Items           []json.RawMessage `json:"items"`
	}{metav1.TypeMeta{Kind: kind.GroupVersionKind.Kind + "List", APIVersion: gvr.GroupVersion().String()}, []json.RawMessage{}}
	for _, entry := range found.Entries {
		list.Items = append(list.Items, entry.JSON())
	}
	return json.Marshal(list)
}
