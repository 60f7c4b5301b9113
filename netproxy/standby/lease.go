package standby

import (
	"context"
	"fmt"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// LabelService is on the Leases of this package, with the Service's name.
	LabelService = "pintle.dev/standby-service"
	// AnnotationHeld is how many wait on the node for an endpoint of the Service.
	AnnotationHeld = "pintle.dev/held"
)

// LeaseName is the Lease in which a node says how it uses a Service of the Lease's namespace. A Service's name has no
// dot, so that no two are alike.
func LeaseName(service, node string) string { return service + ".standby." + node }

// tell writes the Lease: spec.renewTime is when the Service was last used.
func (d *Desk) tell(ctx context.Context, r report) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	api := d.cfg.Client.CoordinationV1().Leases(r.key.Namespace)
	name := LeaseName(r.key.Name, d.cfg.NodeName)
	fill := func(l *coordinationv1.Lease) {
		if l.Labels == nil {
			l.Labels = map[string]string{}
		}
		if l.Annotations == nil {
			l.Annotations = map[string]string{}
		}
		l.Labels[LabelService], l.Annotations[AnnotationHeld] = r.key.Name, strconv.Itoa(r.held)
		l.Spec.HolderIdentity = &d.cfg.NodeName
		at := metav1.NewMicroTime(r.last)
		l.Spec.RenewTime = &at
	}
	for {
		l, err := api.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			l = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: r.key.Namespace, Name: name}}
			if s := r.entry.service(); s != nil && s.UID != "" {
				l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: s.Name, UID: s.UID}}
			}
			fill(l)
			_, err = api.Create(ctx, l, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				continue
			}
		case err == nil:
			l = l.DeepCopy()
			fill(l)
			_, err = api.Update(ctx, l, metav1.UpdateOptions{})
			if apierrors.IsConflict(err) {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("write Lease %s: %w", name, err)
		}
		d.told(r)
		return nil
	}
}
