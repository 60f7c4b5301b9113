package csi

import (
	"context"
	"fmt"
	"slices"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeID is what the driver calls a node.
func nodeID(v *view, driver, node string) (string, error) {
	if c := v.csiNodes[node]; c != nil {
		for _, d := range c.Spec.Drivers {
			if d.Name == driver {
				return d.NodeID, nil
			}
		}
	}
	return "", fmt.Errorf("CSINode %s does not contain driver %s", node, driver)
}

func (c *control) attach(ctx context.Context, v *view, a controlAction) error {
	source := a.volume.Spec.CSI
	if source == nil {
		return fmt.Errorf("PersistentVolume %s is no volume of a driver", a.volume.Name)
	}
	if done, err := c.hold(ctx, a); err != nil || done { // from now on it is detached before the object goes
		return err
	}
	var metadata map[string]string
	if a.driver.can(csipb.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME) {
		id, err := nodeID(v, a.driver.name, a.attachment.Spec.NodeName)
		if err != nil {
			return err
		}
		secrets, err := c.m.secret(ctx, source.ControllerPublishSecretRef)
		if err != nil {
			return err
		}
		mode := csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
		if len(a.volume.Spec.AccessModes) > 0 {
			mode = AccessMode(a.volume.Spec.AccessModes[0], a.driver.can(csipb.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER))
		}
		readOnly := source.ReadOnly && a.driver.can(csipb.ControllerServiceCapability_RPC_PUBLISH_READONLY)
		answer, err := a.driver.control().ControllerPublishVolume(ctx, &csipb.ControllerPublishVolumeRequest{VolumeId: source.VolumeHandle, NodeId: id,
			VolumeCapability: capability(mode, source.FSType, a.volume.Spec.MountOptions, ""), Readonly: readOnly, Secrets: secrets, VolumeContext: source.VolumeAttributes})
		if err != nil {
			return told(err)
		}
		metadata = answer.GetPublishContext()
	}
	return c.status(ctx, a.attachment.Name, func(s *storagev1.VolumeAttachmentStatus) {
		s.Attached, s.AttachmentMetadata, s.AttachError = true, metadata, nil
	})
}

// hold puts the finalizer on a VolumeAttachment. done is true for one that needs no attaching any more.
func (c *control) hold(ctx context.Context, a controlAction) (done bool, err error) {
	api := c.m.cfg.Client.StorageV1().VolumeAttachments()
	o, err := api.Get(ctx, a.attachment.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (o.UID != a.attachment.UID || o.DeletionTimestamp != nil || o.Status.Attached) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	f := attacherFinalizer(a.driver.name)
	if slices.Contains(o.Finalizers, f) {
		return false, nil
	}
	o = o.DeepCopy()
	o.Finalizers = append(o.Finalizers, f)
	_, err = api.Update(ctx, o, metav1.UpdateOptions{})
	return false, err
}

func (c *control) status(ctx context.Context, name string, change func(*storagev1.VolumeAttachmentStatus)) error {
	api := c.m.cfg.Client.StorageV1().VolumeAttachments()
	for try := 0; ; try++ {
		o, err := api.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		o = o.DeepCopy()
		change(&o.Status)
		_, err = api.UpdateStatus(ctx, o, metav1.UpdateOptions{})
		if !apierrors.IsConflict(err) || try == 5 {
			return err
		}
	}
}

func (c *control) detach(ctx context.Context, v *view, a controlAction) error {
	if a.driver.can(csipb.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME) && a.volume != nil && a.volume.Spec.CSI != nil {
		id, err := nodeID(v, a.driver.name, a.attachment.Spec.NodeName)
		if err != nil {
			// The node is gone with its CSINode. The interface has "" for "all nodes", but another may have the volume by now:
			// drivers name nodes as they are called, more often than not.
			id = a.attachment.Spec.NodeName
		}
		secrets, err := c.m.secret(ctx, a.volume.Spec.CSI.ControllerPublishSecretRef)
		if err != nil {
			return err
		}
		_, err = a.driver.control().ControllerUnpublishVolume(ctx, &csipb.ControllerUnpublishVolumeRequest{VolumeId: a.volume.Spec.CSI.VolumeHandle, NodeId: id, Secrets: secrets})
		if err != nil && status.Code(err) != codes.NotFound {
			return told(err)
		}
	}
	api := c.m.cfg.Client.StorageV1().VolumeAttachments()
	if err := c.status(ctx, a.attachment.Name, func(s *storagev1.VolumeAttachmentStatus) {
		s.Attached, s.AttachmentMetadata, s.DetachError = false, nil, nil
	}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	o, err := api.Get(ctx, a.attachment.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	o = o.DeepCopy()
	f := attacherFinalizer(a.driver.name)
	o.Finalizers = slices.DeleteFunc(o.Finalizers, func(x string) bool { return x == f })
	if _, err = api.Update(ctx, o, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
		err = nil
	}
	return err
}
