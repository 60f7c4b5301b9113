package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// write brings the files of a volume from the API server up to date.
func (m *Manager) write(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, dir string) error {
	files, err := m.content(ctx, pod, v, dir)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, dataLink)); err != nil { // new, or memory lost at a reboot
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		if v.ConfigMap == nil && v.DownwardAPI == nil {
			// Secrets stay out of the disk where this process may mount memory.
			if err := mountTmpfs(dir, 0); err != nil {
				m.log.Debug("no tmpfs for a volume of secrets", "pod", pod.Name, "error", err)
			}
		}
	}
	gid := fsGroup(pod)
	mode := os.FileMode(0o755)
	if gid != nil {
		if err := lchown(dir, -1, int(*gid)); err != nil {
			return fmt.Errorf("give the volume to fsGroup %d: %w", *gid, err)
		}
		mode |= os.ModeSetgid
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("open the volume: %w", err)
	}
	return replace(dir, files, gid, m.cfg.Clock().UTC().Format("2006_01_02_15_04_05"))
}

// content collects the files of a volume.
func (m *Manager) content(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, dir string) (map[string]file, error) {
	files := map[string]file{}
	var err error
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		err = m.configMap(ctx, files, pod, s.Name, s.Items, isTrue(s.Optional), modeOf(s.DefaultMode))
	case v.Secret != nil:
		s := v.Secret
		err = m.secret(ctx, files, pod, s.SecretName, s.Items, isTrue(s.Optional), modeOf(s.DefaultMode))
	case v.DownwardAPI != nil:
		err = m.downward(files, pod, v.DownwardAPI.Items, modeOf(v.DownwardAPI.DefaultMode))
	case v.Projected != nil:
		mode := modeOf(v.Projected.DefaultMode)
		for i := range v.Projected.Sources {
			src := &v.Projected.Sources[i]
			switch {
			case src.ConfigMap != nil:
				err = m.configMap(ctx, files, pod, src.ConfigMap.Name, src.ConfigMap.Items, isTrue(src.ConfigMap.Optional), mode)
			case src.Secret != nil:
				err = m.secret(ctx, files, pod, src.Secret.Name, src.Secret.Items, isTrue(src.Secret.Optional), mode)
			case src.DownwardAPI != nil:
				err = m.downward(files, pod, src.DownwardAPI.Items, mode)
			case src.ServiceAccountToken != nil:
				err = m.token(ctx, files, pod, src.ServiceAccountToken, mode, filepath.Join(dir, dataLink))
			case src.ClusterTrustBundle != nil:
				err = fmt.Errorf("projected.sources[%d].clusterTrustBundle: this node has none", i)
			case src.PodCertificate != nil:
				err = fmt.Errorf("projected.sources[%d].podCertificate: this node has none", i)
			default:
				err = fmt.Errorf("projected.sources[%d]: no source", i)
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return files, nil
}

func (m *Manager) configMap(ctx context.Context, files map[string]file, pod *corev1.Pod, name string, items []corev1.KeyToPath, optional bool, mode os.FileMode) error {
	cm, err := m.cfg.Objects.ConfigMap(ctx, pod.Namespace, name)
	if apierrors.IsNotFound(err) && optional {
		return nil
	}
	if err != nil {
		return err
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(files, data, items, optional, mode, "config")
}

func (m *Manager) secret(ctx context.Context, files map[string]file, pod *corev1.Pod, name string, items []corev1.KeyToPath, optional bool, mode os.FileMode) error {
	s, err := m.cfg.Objects.Secret(ctx, pod.Namespace, name)
	if apierrors.IsNotFound(err) && optional {
		return nil
	}
	if err != nil {
		return err
	}
	return pick(files, s.Data, items, optional, mode, "secret")
}

// pick takes the keys that items name, or all.
func pick(files map[string]file, data map[string][]byte, items []corev1.KeyToPath, optional bool, mode os.FileMode, what string) error {
	if len(items) == 0 {
		for k, v := range data {
			files[k] = file{data: v, mode: mode}
		}
		return nil
	}
	for _, it := range items {
		v, ok := data[it.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("references non-existent %s key: %s", what, it.Key)
		}
		f := file{data: v, mode: mode}
		if it.Mode != nil {
			f.mode = modeOf(it.Mode)
		}
		files[filepath.Clean(it.Path)] = f
	}
	return nil
}

func (m *Manager) downward(files map[string]file, pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, mode os.FileMode) error {
	for _, it := range items {
		var value string
		var err error
		switch {
		case it.FieldRef != nil:
			value, err = FieldValue(pod, it.FieldRef.FieldPath)
		case it.ResourceFieldRef != nil:
			value, err = ResourceValue(pod, it.ResourceFieldRef.ContainerName, it.ResourceFieldRef, m.cfg.NodeAllocatable())
		default:
			err = fmt.Errorf("downwardAPI item %q has neither fieldRef nor resourceFieldRef", it.Path)
		}
		if err != nil {
			return err
		}
		f := file{data: []byte(value), mode: mode}
		if it.Mode != nil {
			f.mode = modeOf(it.Mode)
		}
		files[filepath.Clean(it.Path)] = f
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// modeOf is Kubernetes' default without a mode. The bits past permissions have no meaning for data.
func modeOf(mode *int32) os.FileMode {
	if mode == nil {
		return 0o644
	}
	return os.FileMode(*mode) & os.ModePerm
}
