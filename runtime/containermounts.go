package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

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
		if p, ok := w.provided.get(m.Name); ok {
			mt.ReadOnly, mt.HostVolume = mt.ReadOnly || p.readOnly, p.shared
		}
		for _, v := range pod.Spec.Volumes {
			mt.HostVolume = mt.HostVolume || v.Name == m.Name && v.HostPath != nil
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
