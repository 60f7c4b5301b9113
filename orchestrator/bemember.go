package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/orchestrator/registry"
)

const (
	// heartbeatEvery is how often a member of several says that it is there. One alone says only what changes:
	// an idle appliance writes nothing.
	heartbeatEvery = 10 * time.Second
	// memberFinalizer keeps a deleted Member until the leader has taken it out of the cluster.
	memberFinalizer = "cluster.pintle.dev/member"
	// knownWait is how long a member that is refused may take to find that it is one already.
	knownWait = 5 * time.Second
)

func membersGVR() schema.GroupVersionResource {
	return api.ClusterGroupVersion().WithResource("members")
}

// beMember makes this process known: to the store's members by its address, to people by its Member object.
func (p *parts) beMember(ctx context.Context) error {
	if known, err := p.announce(ctx); err != nil || !known {
		return err
	}
	select {
	case <-p.registry.Ready():
	case <-ctx.Done():
		return nil
	}
	client := p.registry.Client("pintle:member:"+p.membership.Member, "system:masters")
	for {
		if err := p.heartbeat(ctx, client); err != nil && ctx.Err() == nil {
			p.cfg.Logger.Warn("this member could not report", "error", err)
		}
		select {
		case <-p.cfg.Clock.After(heartbeatEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// announce tells the other members where this one is, until one has heard. known is false when ctx has ended. It is an
// error when they refuse this member and it has not been let in before: another try would bring the same.
func (p *parts) announce(ctx context.Context) (known bool, err error) {
	if p.cfg.Join == nil {
		return true, nil
	}
	identity := p.identity.member(p.membership, p.cfg.Clock)
	for {
		err := cluster.Announce(ctx, p.cfg.Join.Addresses, identity, p.membership.Member, p.cfg.memberAddress(p.addr))
		if err == nil {
			return true, nil
		}
		pause := joinRetry
		if final(err) {
			pause = knownWait
		} else if ctx.Err() == nil {
			p.cfg.Logger.Warn("the cluster does not know of this member yet; trying again", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-p.store.Ready(): // it is known already, and at work
			return true, nil
		case <-ctx.Done():
			return false, nil
		}
		switch {
		case !final(err):
		case errors.Is(err, cluster.ErrOtherCluster):
			return false, fmt.Errorf("%w: the data folder %s is of the cluster %q (%s), and Config.Join.Addresses lead elsewhere: give an empty folder to join that one",
				err, p.cfg.DataDir, p.membership.Cluster, p.membership.ClusterID)
		default:
			return false, err
		}
	}
}

// heartbeat writes what this member knows of itself.
func (p *parts) heartbeat(ctx context.Context, client *registry.Client) error {
	obj, err := client.Get(ctx, membersGVR(), "", p.membership.Member)
	if apierrors.IsNotFound(err) {
		obj, err = client.Create(ctx, membersGVR(), &api.Member{ObjectMeta: metav1.ObjectMeta{Name: p.membership.Member, Finalizers: []string{memberFinalizer}}})
	}
	if err != nil {
		return fmt.Errorf("read its Member: %w", err)
	}
	old := obj.(*api.Member)
	m := old.DeepCopyObject().(*api.Member)
	m.Status.Version = apiserver.DefaultVersion
	m.Status.APIAddress = ""
	if at := p.advertised(); at.IsValid() {
		m.Status.APIAddress = at.String()
	}
	if p.addr != nil {
		m.Status.Address = p.cfg.memberAddress(p.addr)
	}
	if p.cfg.DataDir != "" {
		if total, free, err := diskSpace(p.cfg.DataDir); err == nil {
			m.Status.Disk = coarse(old.Status.Disk, total, free)
		}
	}
	if p.several() {
		m.Status.HeartbeatTime = metav1.NewTime(p.cfg.Clock.Now())
	}
	if equality.Semantic.DeepEqual(m.Status, old.Status) {
		return nil
	}
	if _, err = client.Update(ctx, membersGVR(), "status", m); apierrors.IsConflict(err) {
		return nil // the leader wrote meanwhile; the next heartbeat says the same
	}
	return err
}

// several says whether the cluster has more than this member.
func (p *parts) several() bool {
	members, err := p.registry.List(context.Background(), membersGVR(), "", registry.ListOptions{})
	return err == nil && len(members.Entries) > 1
}

// coarse keeps what was said of the disk while it has changed by less than a hundredth.
func coarse(said *api.MemberDisk, total, free int64) *api.MemberDisk {
	if said != nil && said.Capacity.Value() == total {
		if d := said.Available.Value() - free; d < total/100 && -d < total/100 {
			return said
		}
	}
	return &api.MemberDisk{Capacity: *resource.NewQuantity(total, resource.BinarySI), Available: *resource.NewQuantity(free, resource.BinarySI)}
}
