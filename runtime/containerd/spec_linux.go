package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/pintle/pintle/runtime"
)

// spec makes the OCI runtime spec. What it can't honour it refuses by name.
func (e *Engine) spec(ctx context.Context, sb *sandbox, x *ctr, img *resolved, rootfs []mount.Mount) (*specs.Spec, error) {
	r, sec, conf := x.Spec, x.Spec.Security, img.config.Config
	if len(r.CDIDevices) > 0 {
		return nil, fmt.Errorf("CDI device %s: the containerd engine takes devices and mounts, not CDI names", r.CDIDevices[0])
	}
	if len(r.Resources.HugePages) > 0 {
		return nil, errors.New("resources.limits[hugepages-*]: the containerd engine doesn't limit huge pages")
	}
	if a := sec.AppArmor; a != "" && a != "unconfined" && a != "Unconfined" {
		return nil, fmt.Errorf("securityContext.appArmorProfile: the containerd engine loads no AppArmor profile (%s)", a)
	}
	s, err := oci.GenerateSpecWithPlatform(ctx, nil, "linux/"+goruntime.GOARCH, &containers.Container{ID: x.CID})
	if err != nil {
		return nil, fmt.Errorf("default spec: %w", err)
	}
	s.Hostname = ""
	s.Annotations = r.Annotations
	s.Root = &specs.Root{Path: "rootfs", Readonly: sec.ReadOnlyRootfs}
	p := s.Process
	entry, cmd := conf.Entrypoint, conf.Cmd
	if r.Command != nil {
		entry, cmd = r.Command, nil
	}
	if r.Args != nil {
		cmd = r.Args
	}
	if p.Args = append(append([]string{}, entry...), cmd...); len(p.Args) == 0 {
		return nil, errors.New("no command: neither the pod nor the image names one")
	}
	p.Terminal, p.NoNewPrivileges, p.Rlimits = r.TTY, sec.NoNewPrivileges, nil
	p.Cwd = cmpOr(cmpOr(r.WorkingDir, conf.WorkingDir), "/")
	p.Env = mergeEnv([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, conf.Env, r.Env)
	if r.TTY {
		p.Env = mergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	score := possibleOOMScore(r.Resources.OOMScoreAdj)
	p.OOMScoreAdj = &score
	x.StopSignal = cmpOr(cmpOr(r.StopSignal, conf.StopSignal), "SIGTERM")
	if n, err := strconv.Atoi(x.StopSignal); err == nil {
		x.StopSignal = signalName(n)
	}
	if p.User, err = e.user(cmpOr(sec.User, conf.User), img.image.Digest, rootfs); err != nil {
		return nil, err
	}
	p.User.AdditionalGids = slices.Clone(p.User.AdditionalGids) // the cache's, which others read
	for _, g := range sec.SupplementalGroups {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	e.setNamespaces(s, sb)
	if err := e.setMounts(s, sb, r); err != nil {
		return nil, err
	}
	if err := setSecurity(ctx, s, sec); err != nil {
		return nil, err
	}
	for _, d := range r.Devices {
		if err := oci.WithDevices(d.HostPath, cmpOr(d.ContainerPath, d.HostPath), cmpOr(d.Permissions, "rwm"))(ctx, nil, nil, s); err != nil {
			return nil, fmt.Errorf("device %s: %w", d.HostPath, err)
		}
	}
	setResources(s, r.Resources)
	s.Linux.CgroupsPath = filepath.Join(e.podCgroup(r.CgroupPath), x.CID)
	return s, nil
}

// possibleOOMScore is the nearest OOM score that this process may give to others: without CAP_SYS_RESOURCE none that
// is lower than its own, and runc fails where it is asked to. Then Guaranteed pods are protected as it is, and no better.
func possibleOOMScore(want int) int {
	const sysResource = 24
	if want >= 0 {
		return want
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return want
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil || caps>>sysResource&1 == 1 {
				return want
			}
		}
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return want
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(own)))
	if err != nil {
		return want
	}
	return max(want, n)
}

func signalName(n int) string {
	for _, s := range []string{"SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGWINCH"} {
		if num, ok := signalNumber(s); ok && num == n {
			return s
		}
	}
	return "SIGTERM"
}

// mergeEnv joins lists; a later value replaces an earlier one of the same name, in its place.
func mergeEnv(lists ...[]string) []string {
	at := map[string]int{}
	var out []string
	for _, l := range lists {
		for _, kv := range l {
			k, _, _ := strings.Cut(kv, "=")
			if i, ok := at[k]; ok {
				out[i] = kv
				continue
			}
			at[k] = len(out)
			out = append(out, kv)
		}
	}
	return out
}

// user resolves names and the groups of a user in the image's own passwd and group files.
func (e *Engine) user(name, image string, rootfs []mount.Mount) (specs.User, error) {
	if name == "" || name == "0" || name == "root" || name == "0:0" {
		return specs.User{}, nil
	}
	key := image + " " + name
	if u, ok := e.users.Load(key); ok {
		return u.(specs.User), nil
	}
	var out specs.User
	dir, err := os.MkdirTemp(e.names.run, "user-")
	if err != nil {
		return out, fmt.Errorf("look up user: %w", err)
	}
	defer os.Remove(dir)
	if err := mount.All(rootfs, dir); err != nil {
		return out, fmt.Errorf("look up user: %w", err)
	}
	defer unmount(dir) //nolint:errcheck // a detached mount goes with its last user
	// A root of its own: links in the image must not lead to the host's files.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return out, fmt.Errorf("look up user: %w", err)
	}
	defer root.Close()
	passwd, _ := root.ReadFile("etc/passwd")
	group, _ := root.ReadFile("etc/group")
	u, err := user.GetExecUser(name, nil, strings.NewReader(string(passwd)), strings.NewReader(string(group)))
	if err != nil {
		return out, fmt.Errorf("user %q: %w", name, err)
	}
	out = specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	for _, g := range u.Sgids {
		out.AdditionalGids = append(out.AdditionalGids, uint32(g))
	}
	e.users.Store(key, out)
	return out, nil
}

func (e *Engine) setNamespaces(s *specs.Spec, sb *sandbox) {
	id := sb.Spec.ID
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if !sb.Spec.HostPID {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if !sb.Spec.HostIPC {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: e.nsPath(id, "ipc")})
	}
	if !sb.Spec.HostNetwork {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: e.nsPath(id, "net")},
			specs.LinuxNamespace{Type: specs.UTSNamespace, Path: e.nsPath(id, "uts")})
	}
	s.Linux.Namespaces = ns
}

func (e *Engine) setMounts(s *specs.Spec, sb *sandbox, r runtime.ContainerSpec) error {
	shm := e.nsPath(sb.Spec.ID, "shm")
	if sb.Spec.HostIPC {
		shm = "/dev/shm"
	}
	cg := "ro"
	if r.Security.Privileged {
		cg = "rw"
	}
	add := []specs.Mount{
		{Destination: "/dev/shm", Type: "bind", Source: shm, Options: []string{"rbind", "rprivate", "nosuid", "nodev", "noexec"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", cg}},
	}
	if rc := e.nsPath(sb.Spec.ID, "resolv.conf"); fileExists(rc) {
		add = append(add, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: rc, Options: []string{"rbind", "rprivate", "rw"}})
	}
	for _, m := range r.Mounts {
		o := specs.Mount{Destination: filepath.Clean(m.ContainerPath), Type: "bind", Source: m.HostPath, Options: []string{"rbind"}}
		if m.HostPath == "" {
			o.Type, o.Source, o.Options = "tmpfs", "tmpfs", []string{"nosuid", "nodev", "mode=1777"}
			if m.SizeLimit > 0 {
				o.Options = append(o.Options, "size="+strconv.FormatInt(m.SizeLimit, 10))
			}
		} else {
			switch m.Propagation {
			case "", "None":
				o.Options = append(o.Options, "rprivate")
			case "HostToContainer":
				o.Options = append(o.Options, "rslave")
			case "Bidirectional":
				o.Options = append(o.Options, "rshared")
				s.Linux.RootfsPropagation = "rshared"
			default:
				return fmt.Errorf("mount %s: mountPropagation %q is not supported", m.ContainerPath, m.Propagation)
			}
			if m.Propagation == "HostToContainer" && s.Linux.RootfsPropagation == "" {
				s.Linux.RootfsPropagation = "rslave"
			}
		}
		o.Options = append(o.Options, m.Options...)
		if m.ReadOnly {
			o.Options = append(o.Options, "ro")
		} else {
			o.Options = append(o.Options, "rw")
		}
		add = append(add, o)
	}
	// The later mount of a destination wins; parents come before children.
	at := map[string]int{}
	var all []specs.Mount
	for _, m := range append(s.Mounts, add...) {
		if m.Destination == "/run" && m.Type == "tmpfs" && m.Source == "tmpfs" && len(all) < len(s.Mounts) {
			continue // containerd's default, which would hide what the image has there
		}
		if i, ok := at[m.Destination]; ok {
			all[i] = m
			continue
		}
		at[m.Destination] = len(all)
		all = append(all, m)
	}
	sort.SliceStable(all, func(i, j int) bool {
		return strings.Count(all[i].Destination, "/") < strings.Count(all[j].Destination, "/")
	})
	s.Mounts = all
	return nil
}

func fileExists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

func setSecurity(ctx context.Context, s *specs.Spec, sec runtime.Security) error {
	if sec.Privileged {
		for _, o := range []oci.SpecOpts{oci.WithAllCurrentCapabilities, oci.WithMaskedPaths(nil), oci.WithReadonlyPaths(nil),
			oci.WithWriteableSysfs, oci.WithSeccompUnconfined, oci.WithHostDevices, oci.WithAllDevicesAllowed} {
			if err := o(ctx, nil, nil, s); err != nil {
				return fmt.Errorf("privileged: %w", err)
			}
		}
		return nil
	}
	if !sec.MaskedPaths {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	}
	set := map[string]bool{}
	for _, c := range s.Process.Capabilities.Bounding {
		set[c] = true
	}
	all := func(on bool) error {
		var t specs.Spec
		t.Process = &specs.Process{Capabilities: &specs.LinuxCapabilities{}}
		if err := oci.WithAllCurrentCapabilities(ctx, nil, nil, &t); err != nil {
			return fmt.Errorf("capabilities: %w", err)
		}
		for _, c := range t.Process.Capabilities.Bounding {
			set[c] = on
		}
		return nil
	}
	for _, list := range []struct {
		caps []string
		on   bool
	}{{onlyAll(sec.AddCaps, true), true}, {onlyAll(sec.DropCaps, true), false}, {onlyAll(sec.AddCaps, false), true}, {onlyAll(sec.DropCaps, false), false}} {
		for _, c := range list.caps {
			if strings.EqualFold(c, "ALL") {
				if err := all(list.on); err != nil {
					return err
				}
				continue
			}
			set["CAP_"+strings.TrimPrefix(strings.ToUpper(c), "CAP_")] = list.on
		}
	}
	caps := []string{}
	for c, on := range set {
		if on {
			caps = append(caps, c)
		}
	}
	sort.Strings(caps)
	k := &specs.LinuxCapabilities{Bounding: caps}
	k.Permitted, k.Effective = caps, caps
	s.Process.Capabilities = k
	switch p := sec.Seccomp; {
	case p == "" || p == "Unconfined":
	case p == "RuntimeDefault":
		s.Linux.Seccomp = seccomp.DefaultProfile(s)
	case strings.HasPrefix(p, "Localhost/"):
		if err := seccomp.WithProfile("/"+strings.TrimPrefix(strings.TrimPrefix(p, "Localhost/"), "/"))(ctx, nil, nil, s); err != nil {
			return fmt.Errorf("securityContext.seccompProfile: %w", err)
		}
	default:
		return fmt.Errorf("securityContext.seccompProfile: %q is not known", p)
	}
	return nil
}

func onlyAll(caps []string, want bool) []string {
	var out []string
	for _, c := range caps {
		if strings.EqualFold(c, "ALL") == want {
			out = append(out, c)
		}
	}
	return out
}

func setResources(s *specs.Spec, r runtime.Resources) {
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	cpu := &specs.LinuxCPU{Cpus: r.CPUSet, Mems: r.MemSet}
	if r.CPUShares != 0 {
		cpu.Shares = &r.CPUShares
	}
	if r.CPUQuota != 0 {
		cpu.Quota = &r.CPUQuota
	}
	if r.CPUPeriod != 0 {
		cpu.Period = &r.CPUPeriod
	}
	s.Linux.Resources.CPU = cpu
	if r.MemoryLimit != 0 {
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &r.MemoryLimit}
	}
}
