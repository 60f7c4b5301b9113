package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/runtime"
)

// sandbox is a record on disk: written before anything is made, so that whatever a kill leaves
// behind has a name, and again when everything is there.
type sandbox struct {
	Spec      runtime.SandboxSpec
	IPs       []netip.Addr
	CreatedAt time.Time
	Complete  bool

	op sync.Mutex // one create or remove at a time
}

func (e *Engine) sandboxFile(id string) string {
	return filepath.Join(e.cfg.DataDir, "sandboxes", id+".json")
}
func (e *Engine) nsDir(id string) string        { return filepath.Join(e.names.run, "sandboxes", id) }
func (e *Engine) nsPath(id, kind string) string { return filepath.Join(e.nsDir(id), kind) }
func (e *Engine) podCgroup(path string) string {
	return filepath.Join(e.names.cgroup, filepath.Clean("/"+path))
}

func (e *Engine) sandboxReady(s *sandbox) bool {
	if !s.Complete {
		return false
	}
	if !s.Spec.HostNetwork && !isNamespace(e.nsPath(s.Spec.ID, "net")) {
		return false
	}
	return s.Spec.HostIPC || isNamespace(e.nsPath(s.Spec.ID, "ipc"))
}

func (e *Engine) public(s *sandbox) runtime.Sandbox {
	return runtime.Sandbox{ID: s.Spec.ID, Name: s.Spec.Name, Namespace: s.Spec.Namespace, IPs: s.IPs,
		Ready: e.sandboxReady(s), CreatedAt: s.CreatedAt, Labels: s.Spec.Labels}
}

// CreateSandbox implements runtime.Engine.
func (e *Engine) CreateSandbox(ctx context.Context, spec runtime.SandboxSpec) (runtime.Sandbox, error) {
	if !safeID.MatchString(spec.ID) {
		return runtime.Sandbox{}, fmt.Errorf("sandbox id %q is not usable as a file name", spec.ID)
	}
	if spec.SharePID && !spec.HostPID {
		return runtime.Sandbox{}, errors.New("spec.shareProcessNamespace: the containerd engine keeps no process that could hold a shared PID namespace; unset it")
	}
	if _, err := e.conn(); err != nil {
		return runtime.Sandbox{}, err
	}
	e.mu.Lock()
	s := e.sandboxes[spec.ID]
	if s == nil {
		s = &sandbox{Spec: spec, CreatedAt: time.Now()}
		e.sandboxes[spec.ID] = s
	}
	e.mu.Unlock()
	s.op.Lock()
	defer s.op.Unlock()
	if e.sandboxReady(s) {
		return e.public(s), nil
	}
	// Whatever an attempt before this one left is in the way.
	if _, err := os.Stat(e.sandboxFile(spec.ID)); err == nil {
		if err := e.cleanSandbox(ctx, s); err != nil {
			return runtime.Sandbox{}, fmt.Errorf("clean sandbox %s: %w", spec.ID, err)
		}
	}
	e.mu.Lock()
	s.Spec, s.CreatedAt = spec, time.Now()
	e.sandboxes[spec.ID] = s
	e.mu.Unlock()
	if err := e.buildSandbox(ctx, s); err != nil {
		return runtime.Sandbox{}, fmt.Errorf("create sandbox %s: %w", spec.ID, err)
	}
	return e.public(s), nil
}

func (e *Engine) buildSandbox(ctx context.Context, s *sandbox) error {
	spec := s.Spec
	if err := writeJSON(e.sandboxFile(spec.ID), s); err != nil {
		return err
	}
	dir := e.nsDir(spec.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create namespace folder: %w", err)
	}
	if err := makeNamespaces(dir, spec); err != nil {
		return err
	}
	if !spec.HostIPC {
		shm := e.nsPath(spec.ID, "shm")
		if err := os.MkdirAll(shm, 0o1777); err != nil {
			return fmt.Errorf("create /dev/shm: %w", err)
		}
		if err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m"); err != nil {
			return fmt.Errorf("mount /dev/shm: %w", err)
		}
	}
	if c := resolvConf(spec.DNS); c != "" {
		if err := os.WriteFile(e.nsPath(spec.ID, "resolv.conf"), []byte(c), 0o644); err != nil {
			return fmt.Errorf("write resolv.conf: %w", err)
		}
	}
	if spec.CgroupPath != "" {
		if err := makePodCgroup(e.podCgroup(spec.CgroupPath), spec.Resources); err != nil {
			return err
		}
	}
	var ips []netip.Addr
	if !spec.HostNetwork {
		var err error
		if ips, err = e.net.add(ctx, spec.ID, e.nsPath(spec.ID, "net")); err != nil {
			return err
		}
	}
	e.mu.Lock()
	s.IPs, s.Complete = ips, true
	e.mu.Unlock()
	if len(spec.PortMaps) > 0 && !spec.HostNetwork {
		if err := e.syncNAT(); err != nil {
			e.mu.Lock()
			s.Complete = false
			e.mu.Unlock()
			return err
		}
	}
	return writeJSON(e.sandboxFile(spec.ID), s)
}

func resolvConf(d runtime.DNSConfig) string {
	var b strings.Builder
	if len(d.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Searches, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return b.String()
}

// syncNAT writes the whole table anew: host ports are few and change rarely.
func (e *Engine) syncNAT() error {
	e.natMu.Lock()
	defer e.natMu.Unlock()
	var ports []hostPort
	e.mu.Lock()
	for _, s := range e.sandboxes {
		if s.Complete && len(s.IPs) > 0 {
			for _, p := range s.Spec.PortMaps {
				ports = append(ports, hostPort{p, s.IPs[0]})
			}
		}
	}
	e.mu.Unlock()
	return applyNAT(e.names.table, e.cfg.PodCIDR, e.cfg.ClusterCIDR, ports)
}

// RemoveSandbox implements runtime.Engine.
func (e *Engine) RemoveSandbox(ctx context.Context, id string) error {
	if _, err := e.conn(); err != nil {
		return err
	}
	e.mu.Lock()
	s := e.sandboxes[id]
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := e.cleanSandbox(ctx, s); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	e.mu.Lock()
	if e.sandboxes[id] == s {
		delete(e.sandboxes, id)
	}
	e.mu.Unlock()
	return nil
}

// cleanSandbox removes everything in the order in which it depends on each other; the record goes
// last, so that a failure or a kill in between can be repeated. The caller holds s.op.
func (e *Engine) cleanSandbox(ctx context.Context, s *sandbox) error {
	id := s.Spec.ID
	e.mu.Lock()
	var ids []string
	for cid, c := range e.containers {
		if c.Spec.SandboxID == id {
			ids = append(ids, cid)
		}
	}
	wasComplete := s.Complete
	s.Complete = false
	e.mu.Unlock()
	for _, cid := range ids {
		if err := e.RemoveContainer(ctx, cid); err != nil {
			return err
		}
	}
	if len(s.Spec.PortMaps) > 0 && wasComplete {
		if err := e.syncNAT(); err != nil {
			return err
		}
	}
	if !s.Spec.HostNetwork {
		if err := e.net.del(ctx, id, e.nsPath(id, "net")); err != nil {
			return err
		}
	}
	for _, k := range []string{"shm", "net", "ipc", "uts"} {
		if err := unmount(e.nsPath(id, k)); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(e.nsDir(id)); err != nil {
		return fmt.Errorf("remove namespace folder: %w", err)
	}
	if s.Spec.CgroupPath != "" {
		if err := removeCgroup(e.podCgroup(s.Spec.CgroupPath)); err != nil {
			return err
		}
	}
	if err := os.Remove(e.sandboxFile(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	return nil
}

// Sandboxes implements runtime.Engine.
func (e *Engine) Sandboxes(context.Context) ([]runtime.Sandbox, error) {
	if _, err := e.conn(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]runtime.Sandbox, 0, len(e.sandboxes))
	for _, s := range e.sandboxes {
		out = append(out, e.public(s))
	}
	return out, nil
}

func (e *Engine) loadSandboxes() error {
	files, err := filepath.Glob(e.sandboxFile("*"))
	if err != nil {
		return fmt.Errorf("list sandboxes: %w", err)
	}
	for _, f := range files {
		s := &sandbox{}
		data, err := os.ReadFile(f)
		if err != nil || json.Unmarshal(data, s) != nil || s.Spec.ID == "" {
			// Torn by a power cut: only its name is known, which is enough to remove it.
			s = &sandbox{Spec: runtime.SandboxSpec{ID: strings.TrimSuffix(filepath.Base(f), ".json")}}
		}
		e.sandboxes[s.Spec.ID] = s
	}
	return nil
}

// Dial implements runtime.Engine: first the pod's loopback, from inside, then its address.
func (e *Engine) Dial(ctx context.Context, id string, port uint16) (net.Conn, error) {
	e.mu.Lock()
	s := e.sandboxes[id]
	var ips []netip.Addr
	if s != nil {
		ips = s.IPs
	}
	e.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("dial sandbox %s: %w", id, runtime.ErrNotFound)
	}
	var d net.Dialer
	local := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	if s.Spec.HostNetwork {
		conn, err := d.DialContext(ctx, "tcp", local)
		if err != nil {
			return nil, fmt.Errorf("dial sandbox %s: %w", id, err)
		}
		return conn, nil
	}
	var conn net.Conn
	err := inNetns(e.nsPath(id, "net"), func() (err error) {
		// With a literal address net dials on the calling goroutine, hence on this thread.
		conn, err = d.DialContext(ctx, "tcp4", local)
		return err
	})
	if err == nil {
		return conn, nil
	}
	for _, ip := range ips {
		if conn, e2 := d.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, port).String()); e2 == nil {
			return conn, nil
		}
	}
	return nil, fmt.Errorf("dial sandbox %s: %w", id, err)
}
