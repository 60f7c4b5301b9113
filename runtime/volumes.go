package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		if err := checkHostPath(vol.HostPath); err != nil {
			return err
		}
		v.hosts[vol.Name] = vol.HostPath.Path
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
		var sum int64
		_ = filepath.WalkDir(filepath.Join(v.dir, vol.Name), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if i, err := d.Info(); err == nil {
					sum += i.Size()
				}
			}
			return nil
		})
		if sum > vol.EmptyDir.SizeLimit.Value() {
			return &refusal{"Evicted", fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", vol.Name, vol.EmptyDir.SizeLimit.String())}
		}
	}
	return nil
}

func checkHostPath(h *corev1.HostPathVolumeSource) error {
	t := corev1.HostPathUnset
	if h.Type != nil {
		t = *h.Type
	}
	st, err := os.Stat(h.Path)
	want := func(ok bool, what string) error {
		if err != nil {
			return fmt.Errorf("hostPath type check failed: %s is not a %s", h.Path, what)
		}
		if !ok {
			return fmt.Errorf("hostPath type check failed: %s is not a %s", h.Path, what)
		}
		return nil
	}
	is := func(m fs.FileMode) bool { return err == nil && st.Mode()&m != 0 }
	switch t {
	case corev1.HostPathUnset:
		if errors.Is(err, fs.ErrNotExist) {
			return os.MkdirAll(h.Path, 0o755) // as container runtimes do for a missing bind source
		}
		return err
	case corev1.HostPathDirectoryOrCreate:
		if errors.Is(err, fs.ErrNotExist) {
			return os.MkdirAll(h.Path, 0o755)
		}
		return want(err == nil && st.IsDir(), "directory")
	case corev1.HostPathDirectory:
		return want(err == nil && st.IsDir(), "directory")
	case corev1.HostPathFileOrCreate:
		if errors.Is(err, fs.ErrNotExist) {
			f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
		return want(err == nil && st.Mode().IsRegular(), "file")
	case corev1.HostPathFile:
		return want(err == nil && st.Mode().IsRegular(), "file")
	case corev1.HostPathSocket:
		return want(is(fs.ModeSocket), "socket file")
	case corev1.HostPathCharDev:
		return want(is(fs.ModeCharDevice), "character device")
	case corev1.HostPathBlockDev:
		return want(is(fs.ModeDevice) && !is(fs.ModeCharDevice), "block device")
	}
	return fmt.Errorf("unknown hostPath type %q", t)
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
				if fsGroup(pod) == nil && !(pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.RunAsUser != nil) {
					tm = m // any user may be the one that runs
				}
				out[s.ServiceAccountToken.Path] = file{data: []byte(t), mode: tm, owner: runAsUser(pod)}
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
	if pod.Spec.SecurityContext == nil || fsGroup(pod) != nil {
		return nil
	}
	return pod.Spec.SecurityContext.RunAsUser
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

func (w *worker) messagePath(containerID string) string {
	return filepath.Join(w.a.podDir(w.uid), "messages", containerID)
}

// terminationMessage reads what the container left, up to Kubernetes' 4096 bytes, and by its policy the
// end of its log.
func (w *worker) terminationMessage(c *Container) string {
	pod := w.pod()
	var spec *corev1.Container
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			if l[i].Name == c.Name {
				spec = &l[i]
			}
		}
	}
	path := c.Labels[labelMessage]
	if path == "" {
		path = w.messagePath(c.ID)
	}
	if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
		return strings.ToValidUTF8(string(b[:min(len(b), 4096)]), "�")
	}
	if spec != nil && spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && c.ExitCode != 0 {
		return lastLines(w.logPath(c.Name, c.Attempt), 80, 2048)
	}
	return ""
}

// mounts maps a container's volume mounts, and adds /etc/hosts and the termination message.
func (w *worker) mounts(pod *corev1.Pod, c *corev1.Container, id string, env map[string]string) ([]Mount, error) {
	var out []Mount
	hosts := true
	for _, m := range c.VolumeMounts {
		path := w.volumes.path(m.Name)
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expand(m.SubPathExpr, env)
			if strings.Contains(sub, "$(") {
				return nil, fmt.Errorf("subPathExpr %q of volume %s names an unknown variable", m.SubPathExpr, m.Name)
			}
		}
		if sub != "" {
			if !filepath.IsLocal(sub) {
				return nil, fmt.Errorf("subPath %q of volume %s leaves it", sub, m.Name)
			}
			p, err := within(path, sub)
			if errors.Is(err, fs.ErrNotExist) && !m.ReadOnly {
				root, rerr := os.OpenRoot(path)
				if rerr != nil {
					return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, rerr)
				}
				rerr = root.MkdirAll(sub, 0o750)
				root.Close()
				if rerr != nil {
					return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, rerr)
				}
				if g := fsGroup(pod); g != nil {
					_ = os.Chown(filepath.Join(path, sub), -1, int(*g))
				}
				p, err = within(path, sub)
			}
			if err != nil {
				return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
			path = p
		}
		mt := Mount{HostPath: path, ContainerPath: m.MountPath, ReadOnly: m.ReadOnly}
		for _, v := range pod.Spec.Volumes {
			// As Kubernetes does: what follows objects can't be written by containers.
			if v.Name == m.Name && (v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil) {
				mt.ReadOnly = true
			}
		}
		if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
			mt.Propagation = string(*m.MountPropagation)
		}
		if !filepath.IsAbs(mt.ContainerPath) {
			mt.ContainerPath = "/" + mt.ContainerPath
		}
		hosts = hosts && filepath.Clean(mt.ContainerPath) != "/etc/hosts"
		out = append(out, mt)
	}
	if hosts {
		p, err := w.hostsFile(pod)
		if err != nil {
			return nil, err
		}
		out = append(out, Mount{HostPath: p, ContainerPath: "/etc/hosts"})
	}
	msg := w.messagePath(id)
	if err := os.MkdirAll(filepath.Dir(msg), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(msg, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("make termination message file: %w", err)
	}
	_ = f.Chmod(0o666) // any user of the container writes it, whatever the umask
	if err := f.Close(); err != nil {
		return nil, err
	}
	path := c.TerminationMessagePath
	if path == "" {
		path = corev1.TerminationMessagePathDefault
	}
	return append(out, Mount{HostPath: msg, ContainerPath: path}), nil
}

func (w *worker) hostsFile(pod *corev1.Pod) (string, error) {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		h, err := os.ReadFile("/etc/hosts")
		if err == nil {
			b.Write(h)
		}
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		name := pod.Spec.Hostname
		if name == "" {
			name = pod.Name
		}
		if pod.Spec.Subdomain != "" {
			name = name + "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + w.a.cfg.ClusterDomain + "\t" + name
		}
		if w.sandbox != nil {
			for _, ip := range w.sandbox.IPs {
				fmt.Fprintf(&b, "%s\t%s\n", ip, name)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, h := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", h.IP, strings.Join(h.Hostnames, "\t"))
		}
	}
	path := filepath.Join(w.a.podDir(w.uid), "etc-hosts")
	if old, err := os.ReadFile(path); err == nil && string(old) == b.String() {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	// Written in place: containers that run have the file itself mounted.
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return "", fmt.Errorf("write hosts file: %w", err)
	}
	return path, nil
}
