package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// createSandbox makes volumes and sandbox; it reports whether to go on at once.
func (w *worker) createSandbox(ctx context.Context, pod *corev1.Pod) bool {
	if !w.admitted {
		if pod.Status.Phase != corev1.PodRunning {
			if r := w.a.admit(pod); r != nil {
				w.refused = r
				w.event(pod, corev1.EventTypeWarning, r.reason, r.message)
				return true
			}
		}
		w.admitted = true
		w.give(sizesOf(pod), podResources(pod))
		w.mu.Lock()
		w.sandboxed = true
		w.mu.Unlock()
	}
	if !w.mount(ctx, pod) {
		return false
	}
	hostname := pod.Spec.Hostname
	if hostname == "" {
		hostname = pod.Name
	}
	if pod.Spec.HostnameOverride != nil {
		hostname = *pod.Spec.HostnameOverride
	}
	hostname = strings.TrimRight(hostname[:min(len(hostname), 63)], "-.")
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && pod.Spec.Subdomain != "" {
		hostname += "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + w.a.cfg.ClusterDomain
	}
	spec := SandboxSpec{ID: string(pod.UID), Name: pod.Name, Namespace: pod.Namespace, Hostname: hostname,
		HostNetwork: pod.Spec.HostNetwork, HostPID: pod.Spec.HostPID, HostIPC: pod.Spec.HostIPC,
		SharePID: pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace,
		Labels: map[string]string{labelPodUID: string(pod.UID), labelPodName: pod.Name, labelPodNS: pod.Namespace,
			labelNode: w.a.cfg.NodeName, labelGrace: strconv.FormatInt(int64(w.grace(pod)/time.Second), 10)},
		Annotations: pod.Annotations, DNS: w.a.dns(pod), CgroupPath: cgroupPath(pod), Resources: podResources(pod)}
	if sc := pod.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		spec.Sysctls = map[string]string{}
		for _, s := range sc.Sysctls {
			spec.Sysctls[s.Name] = s.Value
		}
	}
	if !pod.Spec.HostNetwork {
		for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range l {
				for _, p := range l[i].Ports {
					if p.HostPort != 0 {
						spec.PortMaps = append(spec.PortMaps, PortMap{Protocol: strings.ToLower(string(protocol(p.Protocol))),
							HostIP: p.HostIP, HostPort: uint16(p.HostPort), ContainerPort: uint16(p.ContainerPort)})
					}
				}
			}
		}
	}
	box, err := w.engine.CreateSandbox(ctx, spec)
	if err != nil {
		if ctx.Err() == nil {
			w.event(pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
			// What a failure leaves behind is removed before the next try.
			if err := w.engine.RemoveSandbox(ctx, string(pod.UID)); err != nil {
				w.log.Debug("remove failed sandbox", "error", err)
			}
		}
		w.fail("", 500*time.Millisecond)
		return false
	}
	w.succeed("")
	w.sandbox = &box
	return true
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func (w *worker) mount(ctx context.Context, pod *corev1.Pod) bool {
	if w.volumes != nil {
		return true
	}
	if provided(pod) {
		if ready, err := w.provided.ready(ctx, pod, w.adopted); !ready {
			if err != nil && ctx.Err() == nil {
				w.tellMount(pod, err)
			}
			return false
		}
	}
	v := newVolumes(w)
	if err := v.setUp(ctx, pod); err != nil {
		if ctx.Err() == nil {
			w.event(pod, corev1.EventTypeWarning, "FailedMount", err.Error())
		}
		w.fail("", 500*time.Millisecond)
		return false
	}
	w.volumes = v
	return true
}

// configError is a fault of the manifest or of what it refers to, as opposed to the engine's.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

// containerID is deterministic, so that whatever a killed agent left half done is found again.
func containerID(pod *corev1.Pod, name string, attempt int) string {
	return fmt.Sprintf("%s-%s-%d", pod.UID, name, attempt)
}

// startContainer creates and starts one attempt and reports whether it runs.
func (w *worker) startContainer(ctx context.Context, pod *corev1.Pod, act action) bool {
	c := act.container
	id := containerID(pod, c.Name, act.attempt)
	bad := func(reason, message string) bool {
		if ctx.Err() != nil {
			return false
		}
		w.waiting[c.Name] = corev1.ContainerStateWaiting{Reason: reason, Message: message}
		w.fail(c.Name, time.Second)
		w.wake() // the status is to say so
		return false
	}
	if !w.mount(ctx, pod) {
		return false
	}
	img, reason, err := w.image(ctx, pod, c)
	if err != nil {
		return bad(reason, err.Error())
	}
	spec, err := w.containerSpec(ctx, pod, c, id, act.attempt, img)
	if err != nil {
		reason := "CreateContainerError"
		if errors.As(err, new(configError)) {
			reason = "CreateContainerConfigError"
		}
		w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		return bad(reason, err.Error())
	}
	if err := w.engine.CreateContainer(ctx, spec); err != nil {
		w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		return bad("CreateContainerError", err.Error())
	}
	w.eventFor(pod, c.Name, corev1.EventTypeNormal, "Created", "Container created")
	w.images[id] = img.ID
	if img.Digest != "" && len(img.Names) > 0 {
		w.images[id] = strings.SplitN(img.Names[0], "@", 2)[0] + "@" + img.Digest
		if i := strings.LastIndex(img.Names[0], ":"); i > strings.LastIndex(img.Names[0], "/") && !strings.Contains(img.Names[0], "@") {
			w.images[id] = img.Names[0][:i] + "@" + img.Digest
		}
	}
	hook := c.Lifecycle != nil && c.Lifecycle.PostStart != nil
	if hook {
		w.mu.Lock()
		w.postStart[id] = true
		w.mu.Unlock()
	}
	if e, ok := w.engine.(Preparer); ok {
		if what := e.Preparing(id); what != "" {
			w.eventFor(pod, c.Name, corev1.EventTypeNormal, "Preparing", "Container starts when this is done: "+what)
		}
	}
	if err := w.start(ctx, c, id); err != nil {
		w.mu.Lock()
		delete(w.postStart, id)
		w.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		if w.ended(ctx, id) {
			return true // an attempt like any other that ended: the pod's restartPolicy says what follows
		}
		return bad("RunContainerError", err.Error())
	}
	w.size.real[id] = c.Resources
	w.eventFor(pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
	w.succeed(c.Name)
	if hook {
		ctr := Container{ID: id, Name: c.Name, State: Running}
		w.wg.Go(func() {
			err := w.hook(ctx, pod, c, id, c.Lifecycle.PostStart)
			w.mu.Lock()
			delete(w.postStart, id)
			if err != nil {
				w.stopping[id] = true
			}
			w.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				w.eventFor(pod, c.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
				w.eventFor(pod, c.Name, corev1.EventTypeNormal, "Killing", "FailedPostStartHook")
				end := time.Now().Add(w.grace(pod))
				w.killContainer(ctx, pod, c, ctr, func() time.Time { return end })
			}
			w.wake()
		})
	}
	// One ended attempt is kept, for its logs and its last state.
	w.mu.Lock()
	var old []Container
	for _, l := range w.live {
		if l.Name == c.Name && l.State == Exited && l.Attempt < act.attempt-1 {
			old = append(old, l)
		}
	}
	w.mu.Unlock()
	for _, o := range old {
		if err := w.engine.RemoveContainer(ctx, o.ID); err != nil {
			w.log.Debug("remove old container", "container", o.ID, "error", err)
		}
		delete(w.messages, o.ID)
		delete(w.size.real, o.ID)
		delete(w.size.stopped, o.ID)
		delete(w.images, o.ID)
		removeLogs(w.logPath(c.Name, o.Attempt))
	}
	return true
}

// start starts a container, with the memory of its devices limited before its program begins.
func (w *worker) start(ctx context.Context, c *corev1.Container, id string) error {
	e, ok := w.engine.(CgroupStarter)
	limited := w.limited[id]
	delete(w.limited, id)
	if !ok || !limited {
		return w.engine.StartContainer(ctx, id)
	}
	return e.StartContainerIn(ctx, id, func(cgroup string) error { return w.a.cfg.Devices.LimitMemory(w.uid, c.Name, cgroup) })
}

// ended asks the engine whether a container is over.
func (w *worker) ended(ctx context.Context, id string) bool {
	all, err := w.engine.Containers(ctx)
	return err == nil && slices.ContainsFunc(all, func(c Container) bool { return c.ID == id && c.State == Exited })
}

// image finds the container's image in the local store; nothing is ever pulled.
func (w *worker) image(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (Image, string, error) {
	img, err := w.engine.Image(ctx, c.Image)
	if err == nil {
		w.eventFor(pod, c.Name, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", c.Image))
		return img, "", nil
	}
	if !errors.Is(err, ErrImageNotFound) {
		w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err))
		return img, "ImageInspectError", fmt.Errorf("Failed to inspect image %q: %w", c.Image, err)
	}
	if c.ImagePullPolicy == corev1.PullNever {
		err := fmt.Errorf("Container image %q is not present with pull policy of Never", c.Image)
		w.eventFor(pod, c.Name, corev1.EventTypeWarning, "ErrImageNeverPull", err.Error())
		return img, "ErrImageNeverPull", err
	}
	why := fmt.Errorf("image %q is not in this node's store and nothing is pulled here: import its archive into node %s", c.Image, w.a.cfg.NodeName)
	if w.pause[c.Name] == 0 {
		w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %v", c.Image, why))
		w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: ErrImagePull")
		return img, "ErrImagePull", why
	}
	w.eventFor(pod, c.Name, corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
	w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
	return img, "ImagePullBackOff", fmt.Errorf("Back-off pulling image %q: %w", c.Image, why)
}

func (w *worker) logPath(container string, attempt int) string {
	return filepath.Join(w.a.logDir(w.uid), container, strconv.Itoa(attempt)+".log")
}

func removeLogs(path string) {
	if l, err := filepath.Glob(path + "*"); err == nil {
		for _, p := range l {
			_ = os.Remove(p)
		}
	}
}

func (w *worker) containerSpec(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, attempt int, img Image) (ContainerSpec, error) {
	var none ContainerSpec
	env, err := w.environment(ctx, pod, c)
	if err != nil {
		return none, configError{err}
	}
	sec, err := security(pod, c, img)
	if err != nil {
		return none, configError{err}
	}
	lookup := map[string]string{}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		lookup[k] = v
	}
	mounts, err := w.mounts(pod, c, id, lookup)
	if err != nil {
		return none, configError{err}
	}
	spec := ContainerSpec{ID: id, SandboxID: string(pod.UID), Name: c.Name, Attempt: attempt, Image: c.Image,
		Command: expandAll(c.Command, lookup), Args: expandAll(c.Args, lookup), Env: env, WorkingDir: c.WorkingDir, Mounts: mounts,
		Labels: map[string]string{labelPodUID: string(pod.UID), labelPodName: pod.Name, labelPodNS: pod.Namespace,
			labelContainer: c.Name, labelImage: c.Image, labelNode: w.a.cfg.NodeName, labelMessage: w.messagePath(id)},
		LogPath: w.logPath(c.Name, attempt), LogMaxBytes: w.a.cfg.LogMaxBytes, LogMaxFiles: w.a.cfg.LogMaxFiles,
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY, Resources: containerResources(pod, c, w.a.memory()),
		Security: sec, CgroupPath: cgroupPath(pod)}
	for _, p := range c.Ports {
		if protocol(p.Protocol) == corev1.ProtocolTCP {
			spec.Ports = append(spec.Ports, uint16(p.ContainerPort))
		}
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		spec.StopSignal = string(*c.Lifecycle.StopSignal)
	}
	var near []int
	if d := w.a.cfg.Devices; d != nil {
		inj, err := d.Injection(pod, c.Name)
		if err != nil {
			return none, fmt.Errorf("inject devices: %w", err)
		}
		if _, can := w.engine.(CgroupStarter); inj.Limited && !can {
			return none, fmt.Errorf("inject devices: the engine %s can't limit their memory", w.engine.Name())
		}
		w.limited[id], near = inj.Limited, inj.NUMA
		spec.Devices = append(spec.Devices, inj.Devices...)
		spec.Mounts = append(spec.Mounts, inj.Mounts...)
		spec.Env = append(spec.Env, inj.Env...)
	}
	if err := w.pin(pod, c, &spec, near); err != nil {
		return none, fmt.Errorf("give CPUs: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(spec.LogPath), 0o750); err != nil {
		return none, fmt.Errorf("make log folder: %w", err)
	}
	return spec, nil
}

// security resolves the pod's and the container's security contexts; the container's wins.
func security(pod *corev1.Pod, c *corev1.Container, img Image) (Security, error) {
	s := Security{MaskedPaths: true}
	ps, cs := pod.Spec.SecurityContext, c.SecurityContext
	if ps == nil {
		ps = &corev1.PodSecurityContext{}
	}
	if cs == nil {
		cs = &corev1.SecurityContext{}
	}
	pick := func(a, b *int64) *int64 {
		if a != nil {
			return a
		}
		return b
	}
	uid, gid := pick(cs.RunAsUser, ps.RunAsUser), pick(cs.RunAsGroup, ps.RunAsGroup)
	if uid != nil {
		s.User = strconv.FormatInt(*uid, 10)
	}
	if gid != nil {
		if s.User == "" {
			s.User, _, _ = strings.Cut(img.User, ":")
			if s.User == "" {
				s.User = "0"
			}
		}
		s.User += ":" + strconv.FormatInt(*gid, 10)
	}
	nonRoot := cs.RunAsNonRoot
	if nonRoot == nil {
		nonRoot = ps.RunAsNonRoot
	}
	if nonRoot != nil && *nonRoot {
		switch user, _, _ := strings.Cut(img.User, ":"); {
		case uid != nil && *uid == 0:
			return s, errors.New("container's runAsUser breaks non-root policy")
		case uid != nil:
		case user == "" || user == "0":
			return s, errors.New("container has runAsNonRoot and image will run as root")
		default:
			if _, err := strconv.Atoi(user); err != nil {
				return s, fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", user)
			}
		}
	}
	s.SupplementalGroups = slices.Clone(ps.SupplementalGroups)
	if ps.FSGroup != nil {
		s.SupplementalGroups = append(s.SupplementalGroups, *ps.FSGroup)
	}
	s.Privileged = cs.Privileged != nil && *cs.Privileged
	s.ReadOnlyRootfs = cs.ReadOnlyRootFilesystem != nil && *cs.ReadOnlyRootFilesystem
	s.NoNewPrivileges = cs.AllowPrivilegeEscalation != nil && !*cs.AllowPrivilegeEscalation
	if cs.Capabilities != nil {
		for _, x := range cs.Capabilities.Add {
			s.AddCaps = append(s.AddCaps, string(x))
		}
		for _, x := range cs.Capabilities.Drop {
			s.DropCaps = append(s.DropCaps, string(x))
		}
	}
	if cs.ProcMount != nil && *cs.ProcMount == corev1.UnmaskedProcMount {
		s.MaskedPaths = false
	}
	sp := cs.SeccompProfile
	if sp == nil {
		sp = ps.SeccompProfile
	}
	if sp != nil {
		s.Seccomp = string(sp.Type)
		if sp.Type == corev1.SeccompProfileTypeLocalhost && sp.LocalhostProfile != nil {
			s.Seccomp = "Localhost/" + *sp.LocalhostProfile
		}
	}
	ap := cs.AppArmorProfile
	if ap == nil {
		ap = ps.AppArmorProfile
	}
	if ap != nil {
		s.AppArmor = string(ap.Type)
		if ap.Type == corev1.AppArmorProfileTypeLocalhost && ap.LocalhostProfile != nil {
			s.AppArmor = "Localhost/" + *ap.LocalhostProfile
		}
	}
	return s, nil
}

// dns is the pod's resolv.conf by its dnsPolicy and dnsConfig.
func (a *Agent) dns(pod *corev1.Pod) DNSConfig {
	var d DNSConfig
	policy := pod.Spec.DNSPolicy
	if policy == "" || policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault
		if pod.Spec.DNSPolicy == "" {
			policy = corev1.DNSClusterFirst
		}
	}
	if policy == corev1.DNSClusterFirstWithHostNet {
		policy = corev1.DNSClusterFirst
	}
	if policy == corev1.DNSClusterFirst && len(a.cfg.ClusterDNS) == 0 {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSClusterFirst:
		dom := a.cfg.ClusterDomain
		d.Servers = slices.Clone(a.cfg.ClusterDNS)
		d.Searches = append([]string{pod.Namespace + ".svc." + dom, "svc." + dom, dom}, hostResolv().Searches...)
		d.Options = []string{"ndots:5"}
	case corev1.DNSDefault:
		d = hostResolv()
	}
	if c := pod.Spec.DNSConfig; c != nil {
		add := func(l []string, more []string) []string {
			for _, m := range more {
				if !slices.Contains(l, m) {
					l = append(l, m)
				}
			}
			return l
		}
		d.Servers, d.Searches = add(d.Servers, c.Nameservers), add(d.Searches, c.Searches)
		for _, o := range c.Options {
			s := o.Name
			d.Options = slices.DeleteFunc(d.Options, func(x string) bool { n, _, _ := strings.Cut(x, ":"); return n == o.Name })
			if o.Value != nil {
				s += ":" + *o.Value
			}
			d.Options = append(d.Options, s)
		}
	}
	return d
}

func hostResolv() DNSConfig {
	var d DNSConfig
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return d
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			d.Servers = append(d.Servers, f[1])
		case "search":
			d.Searches = f[1:]
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}
