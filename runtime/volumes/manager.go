package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Objects finds what volumes are made from. The zero Config uses Config.Client; a cache saves calls.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Config says what a Manager works with. Client and Dir are required.
type Config struct {
	// Client reads ConfigMaps and Secrets and asks for service account tokens.
	Client kubernetes.Interface
	// Dir holds one folder per pod, <uid>/volumes/<volume>. Others may keep files beside "volumes".
	Dir string
	// NodeAllocatable answers resourceFieldRefs to limits that a container doesn't set; nil: zero.
	NodeAllocatable func() corev1.ResourceList
	// Objects; nil: each is read through Client when it is needed.
	Objects Objects
	Logger  *slog.Logger     // nil discards
	Clock   func() time.Time // nil: time.Now
}

// Manager keeps the volumes of pods on disk. Make it with New.
type Manager struct {
	cfg Config
	log *slog.Logger

	mu   sync.Mutex
	pods map[types.UID]*podLock // pods that are being worked on
}

type podLock struct {
	mu    sync.Mutex
	users int // under Manager.mu
}

// LimitError says that an emptyDir outgrew its sizeLimit. The pod is to be evicted.
type LimitError struct {
	Volume      string
	Used, Limit int64 // bytes
	limit       string
}

// Error is the kubelet's message for the eviction.
func (e *LimitError) Error() string {
	return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", e.Volume, e.limit)
}

// New checks the configuration. It touches no file.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil {
		return nil, errors.New("volumes: Config.Client is required")
	}
	if cfg.Dir == "" {
		return nil, errors.New("volumes: Config.Dir is required")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("volumes: Config.Dir: %w", err)
	}
	cfg.Dir = dir
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.NodeAllocatable == nil {
		cfg.NodeAllocatable = func() corev1.ResourceList { return nil }
	}
	if cfg.Objects == nil {
		cfg.Objects = direct{cfg.Client}
	}
	return &Manager{cfg: cfg, log: cfg.Logger, pods: map[types.UID]*podLock{}}, nil
}

type direct struct{ client kubernetes.Interface }

func (d direct) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return d.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
}

func (d direct) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return d.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Setup makes the pod's volumes and returns the path on the host of each, by volume name. What is
// there already is kept and brought up to date, so it may be called again, after a restart of the
// agent say. An error names each volume that couldn't be made, in the kubelet's words; the caller
// tries again later.
func (m *Manager) Setup(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	defer m.lock(pod.UID)()
	base, err := m.base(pod.UID)
	if err != nil {
		return nil, err
	}
	paths := make(map[string]string, len(pod.Spec.Volumes))
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		path, err := m.setUp(ctx, pod, v, i, base)
		if err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
			continue
		}
		paths[v.Name] = path
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return paths, nil
}

func (m *Manager) setUp(ctx context.Context, pod *corev1.Pod, v *corev1.Volume, index int, base string) (string, error) {
	if v.HostPath != nil {
		return v.HostPath.Path, checkHostPath(v.HostPath)
	}
	if !filepath.IsLocal(v.Name) || strings.ContainsRune(v.Name, filepath.Separator) {
		return "", fmt.Errorf("spec.volumes[%d].name: %q is no folder name", index, v.Name)
	}
	dir := filepath.Join(base, v.Name)
	if v.EmptyDir != nil || isZero(v.VolumeSource) {
		src := v.EmptyDir
		if src == nil {
			src = &corev1.EmptyDirVolumeSource{} // what an absent source means
		}
		return dir, m.emptyDir(pod, src, dir, index)
	}
	if !fromAPI(v) {
		return "", unsupported(v, index)
	}
	return dir, m.write(ctx, pod, v, dir)
}

// Refresh brings the files of the pod's volumes up to date with their objects and renews service
// account tokens that passed 80 % of their life or a day. It returns a *LimitError (errors.As) if
// an emptyDir outgrew its sizeLimit. A volume that fails keeps its files. It makes no volume that
// Setup didn't make.
func (m *Manager) Refresh(ctx context.Context, pod *corev1.Pod) error {
	defer m.lock(pod.UID)()
	base, err := m.base(pod.UID)
	if err != nil {
		return err
	}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		dir := filepath.Join(base, v.Name)
		if _, err := os.Lstat(dir); err != nil {
			continue
		}
		switch {
		case v.EmptyDir != nil:
			if err := checkLimit(v, dir); err != nil {
				errs = append(errs, err)
			}
		case fromAPI(v):
			if err := m.write(ctx, pod, v, dir); err != nil {
				errs = append(errs, fmt.Errorf("refresh volume %q: %w", v.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Teardown unmounts and removes the pod's volumes. hostPaths stay. It is idempotent; the pod's
// containers must have ended.
func (m *Manager) Teardown(ctx context.Context, uid types.UID) error {
	defer m.lock(uid)()
	base, err := m.base(uid)
	if err != nil {
		return err
	}
	// A mount that stays must not be emptied: it may be the host's own folder, mounted there by a
	// privileged container.
	if err := unmountBelow(base); err != nil {
		return fmt.Errorf("tear down volumes of pod %s: %w", uid, err)
	}
	if err := os.RemoveAll(base); err != nil {
		return fmt.Errorf("tear down volumes of pod %s: %w", uid, err)
	}
	_ = os.Remove(filepath.Dir(base)) // unless others keep files there
	return context.Cause(ctx)
}

func (m *Manager) base(uid types.UID) (string, error) {
	if s := string(uid); s == "" || !filepath.IsLocal(s) || s == "." || strings.ContainsRune(s, filepath.Separator) {
		return "", fmt.Errorf("volumes: %q is no pod UID", uid)
	}
	return filepath.Join(m.cfg.Dir, string(uid), "volumes"), nil
}

// lock gives the caller the pod, until it calls the function returned.
func (m *Manager) lock(uid types.UID) (unlock func()) {
	m.mu.Lock()
	l := m.pods[uid]
	if l == nil {
		l = &podLock{}
		m.pods[uid] = l
	}
	l.users++
	m.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(m.pods, uid)
		}
	}
}

func isZero(s corev1.VolumeSource) bool { return reflect.ValueOf(s).IsZero() }

// fromAPI says whether the volume's files come from the API server.
func fromAPI(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil
}

// unsupported names the field that this node can't honour.
func unsupported(v *corev1.Volume, index int) error {
	s := reflect.ValueOf(v.VolumeSource)
	for i := range s.NumField() {
		if !s.Field(i).IsZero() {
			tag, _, _ := strings.Cut(s.Type().Field(i).Tag.Get("json"), ",")
			return fmt.Errorf("spec.volumes[%d].%s: this node has no such volumes", index, tag)
		}
	}
	return fmt.Errorf("spec.volumes[%d]: no source", index)
}

// SubPath finds sub within a volume, for a volumeMount's subPath, makes it as a folder if nothing is
// there, and returns its real path. Symbolic links that lead out of the volume are refused. If the
// volume is itself a file, sub must be "".
func SubPath(volume, sub string) (string, error) {
	if sub == "" {
		return volume, nil
	}
	if !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q leads out of its volume", sub)
	}
	root, err := os.OpenRoot(volume)
	if err != nil {
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	}
	defer root.Close()
	if _, err := root.Stat(sub); errors.Is(err, fs.ErrNotExist) {
		if err := root.MkdirAll(sub, 0o755); err != nil {
			return "", fmt.Errorf("subPath %q: %w", sub, err)
		}
		// A container that isn't root must be able to write where it could write to the volume.
		if info, err := os.Stat(volume); err == nil {
			_ = root.Chmod(sub, info.Mode())
			chownLike(root, sub, info)
		}
	} else if err != nil {
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	}
	real, err := filepath.EvalSymlinks(filepath.Join(volume, sub))
	if err != nil {
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	}
	top, err := filepath.EvalSymlinks(volume)
	if err != nil {
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	}
	if rel, err := filepath.Rel(top, real); err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("subPath %q leads out of its volume", sub)
	}
	return real, nil
}
