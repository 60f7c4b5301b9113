package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

// Members lists the members of the control plane as the leader sees them.
func (o *Orchestrator) Members(ctx context.Context) ([]raftstore.Member, error) {
	return withStore(o, "members", func(s *raftstore.Store) ([]raftstore.Member, error) { return s.Members(ctx) })
}

// RemoveMember takes a member out of the cluster, as deleting its Member object does. It is refused when the
// healthy voters that remain would be no majority.
func (o *Orchestrator) RemoveMember(ctx context.Context, name string) error {
	return o.changeMembers("remove member", func(s *raftstore.Store) error { return s.RemoveMember(ctx, name) })
}

// PromoteMember gives a member its vote now, rather than when it has caught up and stayed so.
func (o *Orchestrator) PromoteMember(ctx context.Context, name string) error {
	return o.changeMembers("promote member", func(s *raftstore.Store) error { return s.PromoteMember(ctx, name) })
}

// HandOver makes another voter the leader; "" is the one that is furthest. Run does so before an orderly stop.
func (o *Orchestrator) HandOver(ctx context.Context, to string) error {
	return o.changeMembers("hand over", func(s *raftstore.Store) error { return s.HandOver(ctx, to) })
}

func withStore[T any](o *Orchestrator, what string, call func(*raftstore.Store) (T, error)) (T, error) {
	p := o.running()
	if p == nil {
		var none T
		return none, fmt.Errorf("orchestrator: %s: Run has not begun or has ended", what)
	}
	out, err := call(p.store)
	if err != nil {
		err = fmt.Errorf("orchestrator: %s: %w", what, err)
	}
	return out, err
}

func (o *Orchestrator) changeMembers(what string, call func(*raftstore.Store) error) error {
	_, err := withStore(o, what, func(s *raftstore.Store) (struct{}, error) { return struct{}{}, call(s) })
	return err
}

// How often the leader compares the Member objects with the store's members, and how often it writes what
// changes all the time: lag and contact.
const (
	membersEvery = time.Second
	contactEvery = 10 * time.Second
)

// keepMembers is the leader's: it writes what the store says into the Member objects, and does what they ask for.
func (p *parts) keepMembers(ctx context.Context, client *registry.Client) error {
	for ctx.Err() == nil {
		if err := p.syncMembers(ctx, client); err != nil && ctx.Err() == nil {
			p.cfg.Logger.Debug("members could not be compared", "error", err)
		}
		select {
		case <-p.cfg.Clock.After(membersEvery):
		case <-ctx.Done():
		}
	}
	return nil
}

func (p *parts) syncMembers(ctx context.Context, client *registry.Client) error {
	members, err := p.store.Members(ctx)
	if err != nil {
		return err
	}
	objects, err := client.List(ctx, membersGVR(), "", nil)
	if err != nil {
		return err
	}
	var errs []error
	for _, step := range decideMembers(members, objects, p.cfg.Clock.Now()) {
		errs = append(errs, p.doMember(ctx, client, step))
	}
	return errors.Join(errs...)
}

// memberStep is one thing to do about one member.
type memberStep struct {
	what   memberAction
	object *api.Member // as it is to be written, or as it is
}

type memberAction int

const (
	createMember memberAction = iota
	writeMember               // the status
	removeMember              // from the store
	forgetMember              // the finalizer of one that the store no longer has
	promoteMember
	handOverTo
)

// decideMembers compares what the store says with the objects. Pure.
func decideMembers(members []raftstore.Member, objects []api.Object, now time.Time) (steps []memberStep) {
	byName := map[string]*api.Member{}
	for _, o := range objects {
		m := o.(*api.Member)
		byName[m.Name] = m
	}
	known := map[string]bool{}
	for _, member := range members {
		known[member.ID] = true
		m := byName[member.ID]
		switch {
		case m == nil:
			steps = append(steps, memberStep{createMember, &api.Member{ObjectMeta: metav1.ObjectMeta{Name: member.ID, Finalizers: []string{memberFinalizer}}}})
			continue
		case m.DeletionTimestamp != nil:
			steps = append(steps, memberStep{removeMember, m})
			continue
		}
		if m.Spec.Role == api.MemberVoter && !member.Voter {
			steps = append(steps, memberStep{promoteMember, m})
		}
		if m.Annotations[api.AnnotationHandOver] == "true" {
			steps = append(steps, memberStep{handOverTo, m})
		}
		if next := memberStatus(m, member, len(members) > 1, now); next != nil {
			steps = append(steps, memberStep{writeMember, next})
		}
	}
	for name, m := range byName {
		if !known[name] && m.DeletionTimestamp != nil {
			steps = append(steps, memberStep{forgetMember, m})
		}
	}
	return steps
}

// memberStatus is m with the store's word in its status; nil if that changes nothing worth a write.
func memberStatus(m *api.Member, member raftstore.Member, several bool, now time.Time) *api.Member {
	next := m.DeepCopyObject().(*api.Member)
	s := &next.Status
	s.Leader, s.Role = member.Leader, api.MemberStandby
	if member.Voter {
		s.Role = api.MemberVoter
	}
	if member.Address != "" && several {
		s.Address = member.Address
	}
	ready := metav1.Condition{Type: api.MemberReady, Status: metav1.ConditionTrue, Reason: "Healthy", Message: "the leader is in contact with it", ObservedGeneration: m.Generation}
	if !member.Healthy {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "Unhealthy", member.Problem
	}
	if old := meta.FindStatusCondition(m.Status.Conditions, api.MemberReady); old == nil || old.Status != ready.Status || old.Reason != ready.Reason {
		ready.LastTransitionTime = metav1.NewTime(now)
		meta.SetStatusCondition(&s.Conditions, ready)
	}
	// What moves all the time is written now and then, and only where there is somebody to compare with.
	if several && now.Sub(m.Status.LastContact.Time) >= contactEvery && member.LastContact >= 0 {
		s.LastContact = metav1.NewTime(now.Add(-member.LastContact))
		s.AppliedIndex, s.Lag = int64(member.AppliedIndex), int64(member.Lag)
	}
	if equality.Semantic.DeepEqual(s, &m.Status) {
		return nil
	}
	return next
}

func (p *parts) doMember(ctx context.Context, client *registry.Client, step memberStep) (err error) {
	m := step.object
	switch step.what {
	case createMember:
		_, err = client.Create(ctx, membersGVR(), m)
	case writeMember:
		_, err = client.Update(ctx, membersGVR(), "status", m)
	case promoteMember:
		err = p.store.PromoteMember(ctx, m.Name)
	case removeMember:
		err = p.store.RemoveMember(ctx, m.Name)
	case forgetMember:
		next := m.DeepCopyObject().(*api.Member)
		next.Finalizers = nil
		_, err = client.Update(ctx, membersGVR(), "", next)
	case handOverTo:
		// The annotation goes first: the next leader must not hand over again.
		next := m.DeepCopyObject().(*api.Member)
		delete(next.Annotations, api.AnnotationHandOver)
		if _, err = client.Update(ctx, membersGVR(), "", next); err == nil && !m.Status.Leader {
			err = p.store.HandOver(ctx, m.Name)
		}
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return nil // the next look finds what is true then
	}
	return err
}
