package csi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// AnnotationControllers, of a CSINode, names the drivers whose controller's calls its node makes, separated by commas.
const AnnotationControllers = "csi.pintle.dev/controllers"

// publishDriver writes the driver into the CSINode, and its topology into the node's labels, which come first: who reads the
// keys looks for the labels.
func (m *Manager) publishDriver(ctx context.Context, d *driver) error {
	nodes := m.cfg.Client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, m.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get node: %w", err)
	}
	missing := map[string]string{}
	for k, v := range d.topology {
		old, ok := node.Labels[k]
		if ok && old != v {
			return fmt.Errorf("detected topology value collision: driver reported %q:%q but existing label is %q:%q", k, v, k, old)
		}
		if !ok {
			missing[k] = v
		}
	}
	if len(missing) > 0 {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": missing}})
		if err != nil {
			return err
		}
		if _, err := nodes.Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("label node: %w", err)
		}
	}
	entry := storagev1.CSINodeDriver{Name: d.name, NodeID: d.nodeID, TopologyKeys: slices.Sorted(maps.Keys(d.topology))}
	if d.limit > 0 {
		n := int32(min(d.limit, 1<<31-1))
		entry.Allocatable = &storagev1.VolumeNodeResources{Count: &n}
	}
	controls := d.controller && !m.external(ctx, d)
	return m.updateCSINode(ctx, node, func(c *storagev1.CSINode) { setDriver(c, entry, controls) })
}

func (m *Manager) withdrawDriver(ctx context.Context, name string) error {
	node, err := m.cfg.Client.CoreV1().Nodes().Get(ctx, m.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get node: %w", err)
	}
	return m.updateCSINode(ctx, node, func(c *storagev1.CSINode) { dropDriver(c, name) })
}

// updateCSINode changes the node's CSINode, or makes it; nothing is written if nothing changes.
func (m *Manager) updateCSINode(ctx context.Context, node *corev1.Node, change func(*storagev1.CSINode)) error {
	api := m.cfg.Client.StorageV1().CSINodes()
	for try := 0; ; try++ {
		old, err := api.Get(ctx, node.Name, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if err != nil && !missing {
			return fmt.Errorf("get CSINode: %w", err)
		}
		if missing {
			old = &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node.Name}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{}}}
		}
		c := old.DeepCopy()
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
		change(c)
		switch {
		case missing:
			_, err = api.Create(ctx, c, metav1.CreateOptions{})
		case equality.Semantic.DeepEqual(old, c):
			return nil
		default:
			_, err = api.Update(ctx, c, metav1.UpdateOptions{})
		}
		if (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)) && try < 5 {
			continue
		}
		if err != nil {
			return fmt.Errorf("write CSINode: %w", err)
		}
		return nil
	}
}

func setDriver(c *storagev1.CSINode, d storagev1.CSINodeDriver, controls bool) {
	dropDriver(c, d.Name)
	c.Spec.Drivers = append(c.Spec.Drivers, d)
	slices.SortFunc(c.Spec.Drivers, func(a, b storagev1.CSINodeDriver) int { return cmp.Compare(a.Name, b.Name) })
	if controls {
		setControllers(c, append(controllers(c), d.Name))
	}
}

func dropDriver(c *storagev1.CSINode, name string) {
	c.Spec.Drivers = slices.DeleteFunc(slices.Clone(c.Spec.Drivers), func(d storagev1.CSINodeDriver) bool { return d.Name == name })
	setControllers(c, slices.DeleteFunc(controllers(c), func(n string) bool { return n == name }))
}

// controllers are the drivers whose controller's calls the node makes.
func controllers(c *storagev1.CSINode) []string {
	s := c.Annotations[AnnotationControllers]
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func setControllers(c *storagev1.CSINode, names []string) {
	if len(names) == 0 {
		delete(c.Annotations, AnnotationControllers)
		return
	}
	slices.Sort(names)
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[AnnotationControllers] = strings.Join(slices.Compact(names), ",")
}
