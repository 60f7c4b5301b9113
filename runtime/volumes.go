package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volumes are one pod's, below DataDir/pods/<uid>/volumes.
type volumes struct {
	w      *worker
	dir    string
	hosts  map[string]string // volume → host path, for hostPath
	tokens map[string]token  // volume/index → what was issued
}

type token struct {
	value   string
	renewAt time.Time
}

func newVolumes(w *worker) *volumes {
	return &volumes{w: w, dir: filepath.Join(w.a.podDir(w.uid), "volumes"), hosts: map[string]string{}, tokens: map[string]token{}}
}

func (v *volumes) path(name string) string {
	if h, ok := v.hosts[name]; ok {
		return h
	}
	return filepath.Join(v.dir, name)
}

// changeable reports whether any volume follows an object, or has a limit to watch.
func (v *volumes) changeable() bool {
	pod := v.w.pod()
	return slices.ContainsFunc(pod.Spec.Volumes, func(x corev1.Volume) bool {
		return x.ConfigMap != nil || x.Secret != nil || x.Projected != nil || x.DownwardAPI != nil ||
			x.EmptyDir != nil && x.EmptyDir.SizeLimit != nil
	})
}

// setUp makes every volume, or brings those that follow objects up to date. Idempotent.
func (v *volumes) setUp(ctx context.Context, pod *corev1.Pod) error {
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return fmt.Errorf("make volume folder: %w", err)
	}
	var errs []error
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		if err := v.setUpOne(ctx, pod, vol); err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", vol.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (v *volumes) setUpOne(ctx context.Context, pod *corev1.Pod, vol *corev1.Volume) error {
	path := filepath.Join(v.dir, vol.Name)
	var files map[string]file
	var err error
	switch {
	case vol.EmptyDir != nil:
		return v.emptyDir(pod, vol.EmptyDir, path)
	case vol.HostPath != nil:
		h := *vol.HostPath
		h.Path = v.w.a.hostPath(h.Path)
		if err := checkHostPath(&h); err != nil {
			return err
		}
		if h.Path != vol.HostPath.Path && propagates(pod, vol.Name) {
			if err := v.w.a.shareKubeletDir(); err != nil {
				return err
			}
		}
		v.hosts[vol.Name] = h.Path
		return nil
	case isProvided(pod, vol):
		m, ok := v.w.provided.get(vol.Name)
		if !ok {
			return errors.New("the volume is not ready")
		}
		v.hosts[vol.Name] = m.path
		return nil
	case vol.ConfigMap != nil:
		files = map[string]file{}
		s := vol.ConfigMap
		err = v.configMap(ctx, pod, s.Name, s.Items, optional(s.Optional), mode(s.DefaultMode), files)
	case vol.Secret != nil:
		files = map[string]file{}
		s := vol.Secret
		err = v.secret(ctx, pod, s.SecretName, s.Items, optional(s.Optional), mode(s.DefaultMode), files)
	case vol.DownwardAPI != nil:
		files = map[string]file{}
		err = v.downward(pod, vol.DownwardAPI.Items, mode(vol.DownwardAPI.DefaultMode), files)
	case vol.Projected != nil:
		files, err = v.projected(ctx, pod, vol)
	default:
		return errors.New("this kind of volume isn't supported on this node")
	}
	if err != nil {
		return err
	}
	return writeAtomically(path, files, fsGroup(pod))
}

func fsGroup(pod *corev1.Pod) *int64 {
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.FSGroup
	}
	return nil
}

func mode(m *int32) fs.FileMode {
	if m == nil {
		return 0o644
	}
	return fs.FileMode(*m)
}

func (v *volumes) emptyDir(pod *corev1.Pod, e *corev1.EmptyDirVolumeSource, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if e.Medium == corev1.StorageMediumMemory {
		limit := int64(0)
		if e.SizeLimit != nil {
			limit = e.SizeLimit.Value()
		}
		if err := mountTmpfs(path, limit); err != nil {
			// Without the right to mount (no root, not Linux) the folder is on disk; its limit is checked all the same.
			v.w.log.Info("emptyDir in memory falls back to disk", "error", err)
		}
	} else if e.Medium != corev1.StorageMediumDefault {
		_ = os.Remove(path)
		return fmt.Errorf("medium %q isn't supported", e.Medium)
	}
	m := fs.FileMode(0o777)
	if g := fsGroup(pod); g != nil {
		if err := os.Chown(path, -1, int(*g)); err != nil && os.Geteuid() == 0 {
			return err
		}
		m |= fs.ModeSetgid
	}
	return os.Chmod(path, m)
}

// overLimit checks what emptyDirs hold against their sizeLimit.
func (v *volumes) overLimit(pod *corev1.Pod) *refusal {
	for _, vol := range pod.Spec.Volumes {
		if vol.EmptyDir == nil || vol.EmptyDir.SizeLimit == nil {
			continue
		}
		sum := folderBytes(filepath.Join(v.dir, vol.Name))
		if sum > vol.EmptyDir.SizeLimit.Value() {
			return &refusal{reason: "Evicted", message: fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", vol.Name, vol.EmptyDir.SizeLimit.String())}
		}
	}
	return nil
}

func (v *volumes) configMap(ctx context.Context, pod *corev1.Pod, name string, items []corev1.KeyToPath, opt bool, m fs.FileMode, out map[string]file) error {
	cm, err := v.w.a.objects.configMap(ctx, pod.Namespace, name)
	if err != nil {
		if opt && apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	data := map[string][]byte{}
	for k, s := range cm.Data {
		data[k] = []byte(s)
	}
	for k, b := range cm.BinaryData {
		data[k] = b
	}
	return pickItems(data, items, opt, m, out)
}

func (v *volumes) secret(ctx context.Context, pod *corev1.Pod, name string, items []corev1.KeyToPath, opt bool, m fs.FileMode, out map[string]file) error {
	s, err := v.w.a.objects.secret(ctx, pod.Namespace, name)
	if err != nil {
		if opt && apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	return pickItems(s.Data, items, opt, m, out)
}

func pickItems(data map[string][]byte, items []corev1.KeyToPath, opt bool, m fs.FileMode, out map[string]file) error {
	if len(items) == 0 {
		for k, b := range data {
			out[k] = file{data: b, mode: m}
		}
		return nil
	}
	for _, it := range items {
		b, ok := data[it.Key]
		if !ok {
			if opt {
				continue
			}
			return fmt.Errorf("references non-existent config key: %s", it.Key)
		}
		f := file{data: b, mode: m}
		if it.Mode != nil {
			f.mode = fs.FileMode(*it.Mode)
		}
		out[it.Path] = f
	}
	return nil
}

func (v *volumes) downward(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, m fs.FileMode, out map[string]file) error {
	for _, it := range items {
		var s string
		var err error
		switch {
		case it.FieldRef != nil:
			s, err = v.w.field(pod, it.FieldRef.FieldPath)
		case it.ResourceFieldRef != nil:
			c := &corev1.Container{}
			if len(pod.Spec.Containers) > 0 {
				c = &pod.Spec.Containers[0]
			}
			s, err = v.w.a.resourceField(pod, c, it.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		f := file{data: []byte(s), mode: m}
		if it.Mode != nil {
			f.mode = fs.FileMode(*it.Mode)
		}
		out[it.Path] = f
	}
	return nil
}

func (v *volumes) projected(ctx context.Context, pod *corev1.Pod, vol *corev1.Volume) (map[string]file, error) {
	out := map[string]file{}
	m := mode(vol.Projected.DefaultMode)
	for i, s := range vol.Projected.Sources {
		var err error
		switch {
		case s.ConfigMap != nil:
			err = v.configMap(ctx, pod, s.ConfigMap.Name, s.ConfigMap.Items, optional(s.ConfigMap.Optional), m, out)
		case s.Secret != nil:
			err = v.secret(ctx, pod, s.Secret.Name, s.Secret.Items, optional(s.Secret.Optional), m, out)
		case s.DownwardAPI != nil:
			err = v.downward(pod, s.DownwardAPI.Items, m, out)
		case s.ServiceAccountToken != nil:
			var t string
			if t, err = v.token(ctx, pod, fmt.Sprintf("%s/%d", vol.Name, i), s.ServiceAccountToken); err == nil {
				tm := fs.FileMode(0o600)
				owner := runAsUser(pod)
				if fsGroup(pod) == nil && owner == nil {
					tm = m // any user may be the one that runs
				}
				out[s.ServiceAccountToken.Path] = file{data: []byte(t), mode: tm, owner: owner}
			}
		default:
			err = errors.New("this projected source isn't supported on this node")
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// runAsUser is the one user of all containers, or nil: a token with mode 0600 belongs to it.
func runAsUser(pod *corev1.Pod) *int64 {
	if fsGroup(pod) != nil {
		return nil
	}
	var pods *int64
	if pod.Spec.SecurityContext != nil {
		pods = pod.Spec.SecurityContext.RunAsUser
	}
	var one *int64
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			user := pods
			if sc := l[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				user = sc.RunAsUser
			}
			if user == nil || one != nil && *one != *user {
				return nil
			}
			one = user
		}
	}
	return one
}

// token issues a token bound to the pod and renews it after four fifths of its life.
func (v *volumes) token(ctx context.Context, pod *corev1.Pod, key string, p *corev1.ServiceAccountTokenProjection) (string, error) {
	now := v.w.a.cfg.Clock()
	if t, ok := v.tokens[key]; ok && now.Before(t.renewAt) {
		return t.value, nil
	}
	sa := pod.Spec.ServiceAccountName
	if sa == "" {
		sa = "default"
	}
	seconds := int64(3600)
	if p.ExpirationSeconds != nil {
		seconds = *p.ExpirationSeconds
	}
	tr := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds,
		BoundObjectRef: &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}}}
	if p.Audience != "" {
		tr.Spec.Audiences = []string{p.Audience}
	}
	res, err := v.w.a.cfg.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, sa, tr, metav1.CreateOptions{})
	if err != nil {
		if t, ok := v.tokens[key]; ok {
			return t.value, nil // the old one is good for a fifth of its life yet
		}
		return "", fmt.Errorf("failed to fetch token: %w", err)
	}
	life := time.Duration(seconds) * time.Second
	if e := res.Status.ExpirationTimestamp; !e.IsZero() && e.Sub(now) > 0 {
		life = e.Sub(now)
	}
	v.tokens[key] = token{res.Status.Token, now.Add(min(life*4/5, 24*time.Hour))}
	return res.Status.Token, nil
}
