package api

import (
	"fmt"
	"net"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ClusterGroupVersion is the group of what describes the control plane itself.
func ClusterGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "cluster.pintle.dev", Version: "v1alpha1"}
}

const (
	// AnnotationHandOver, "true" on a Member, asks the leader to hand over to it. It is taken off when that is done or
	// was refused; an Event says which.
	AnnotationHandOver = "cluster.pintle.dev/hand-over"

	// MemberReady is True while the member has reported lately and the leader is in contact with it.
	MemberReady = "Ready"
)

// Member is one process of the control plane. Members write their own objects; to delete one is to take
// the member out of the cluster.
type Member struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   MemberSpec   `json:"spec,omitempty"`
	Status MemberStatus `json:"status,omitempty"`
}

// MemberSpec is what is wanted of a member.
type MemberSpec struct {
	// Role Voter gives it its vote now. Empty: as soon as it has caught up and stayed so.
	Role MemberRole `json:"role,omitempty"`
}

// MemberRole is what a member does in the cluster.
type MemberRole string

// The roles of members. A Standby holds the state and has no vote yet.
const (
	MemberVoter   MemberRole = "Voter"
	MemberStandby MemberRole = "Standby"
)

// MemberStatus is what a member and the leader have seen of it.
type MemberStatus struct {
	// Address is where the other members reach it, host:port.
	Address string `json:"address,omitempty"`
	// APIAddress is where pods and nodes reach its API, ip:port.
	APIAddress string `json:"apiAddress,omitempty"`
	// Version is the program's.
	Version string `json:"version,omitempty"`
	// Role is Voter or Standby, as the leader sees it.
	Role MemberRole `json:"role,omitempty"`
	// Leader says that it leads.
	Leader bool `json:"leader,omitempty"`
	// AppliedIndex is how far its state is, and Lag how many entries of the log that is behind the leader.
	AppliedIndex int64 `json:"appliedIndex,omitempty"`
	Lag          int64 `json:"lag,omitempty"`
	// LastContact is when the leader last heard of it, HeartbeatTime when it last wrote this object.
	LastContact   metav1.Time `json:"lastContact,omitempty"`
	HeartbeatTime metav1.Time `json:"heartbeatTime,omitempty"`
	// Disk is the file system of its data folder.
	Disk *MemberDisk `json:"disk,omitempty"`

	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MemberDisk is a file system's size, in bytes.
type MemberDisk struct {
	Capacity  resource.Quantity `json:"capacity"`
	Available resource.Quantity `json:"available"`
}

// MemberList is a list of Members.
type MemberList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Member `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (m *Member) DeepCopyObject() runtime.Object {
	if m == nil {
		return nil
	}
	out := *m
	m.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	m.Status.LastContact.DeepCopyInto(&out.Status.LastContact)
	m.Status.HeartbeatTime.DeepCopyInto(&out.Status.HeartbeatTime)
	if d := m.Status.Disk; d != nil {
		out.Status.Disk = &MemberDisk{Capacity: d.Capacity.DeepCopy(), Available: d.Available.DeepCopy()}
	}
	if m.Status.Conditions != nil {
		out.Status.Conditions = make([]metav1.Condition, len(m.Status.Conditions))
		for i := range m.Status.Conditions {
			m.Status.Conditions[i].DeepCopyInto(&out.Status.Conditions[i])
		}
	}
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *MemberList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]Member, len(l.Items))
		for i := range l.Items {
			out.Items[i] = *l.Items[i].DeepCopyObject().(*Member)
		}
	}
	return &out
}

func memberKind() *Kind {
	return &Kind{
		GroupVersionKind: ClusterGroupVersion().WithKind("Member"),
		Resource:         "members", Singular: "member",
		New:     func() Object { return &Member{} },
		NewList: func() runtime.Object { return &MemberList{} },
		PrepareCreate: of(func(m *Member) {
			m.Generation = 1
			m.Status = MemberStatus{}
		}),
		PrepareUpdate: pair(func(m, old *Member) {
			m.Status = old.Status
			if m.Spec != old.Spec {
				m.Generation++
			}
		}),
		Validate: check(func(m *Member) (errs field.ErrorList) {
			if m.Spec.Role != "" {
				errs = append(errs, oneOf(m.Spec.Role, []MemberRole{MemberVoter}, field.NewPath("spec", "role"))...)
			}
			for name, address := range map[string]string{"address": m.Status.Address, "apiAddress": m.Status.APIAddress} {
				if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
					errs = append(errs, field.Invalid(field.NewPath("status", name), address, "must be host:port"))
				}
			}
			return errs
		}),
		Status: &Status{PrepareUpdate: pair(func(m, old *Member) { m.Spec = old.Spec })},
		Columns: []metav1.TableColumnDefinition{nameColumn(),
			column("Role", "Voter or Standby; the leader says so too", 0), column("Ready", "Whether it reports and the leader hears of it", 0),
			column("Lag", "Entries of the log that it is behind the leader", 0), column("Contact", "When the leader last heard of it", 0),
			column("Disk", "Free of the file system of its data folder", 0), ageColumn(),
			column("Address", "Where the other members reach it", 1), column("API", "Where nodes and pods reach it", 1), column("Version", "The program's", 1)},
		Row: row(func(m *Member) []any {
			role, ready, disk := string(m.Status.Role), "Unknown", "<unknown>"
			if m.Status.Leader {
				role += ",Leader"
			}
			if c := meta.FindStatusCondition(m.Status.Conditions, MemberReady); c != nil {
				ready = string(c.Status)
			}
			if d := m.Status.Disk; d != nil && d.Capacity.Value() > 0 {
				disk = fmt.Sprintf("%d%%", d.Available.Value()*100/d.Capacity.Value())
			}
			return []any{m.Name, role, ready, fmt.Sprint(m.Status.Lag), m.Status.LastContact, disk, m.CreationTimestamp,
				m.Status.Address, m.Status.APIAddress, m.Status.Version}
		}),
	}
}
