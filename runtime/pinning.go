package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/runtime/cpus"
)

// CPUSetter is an Engine that can say anew on which CPUs and NUMA nodes a container may run.
type CPUSetter interface {
	// SetCPUs takes effect at once. Both are in the kernel's list format, "0-3,8"; "" leaves it as it is.
	SetCPUs(ctx context.Context, id, cpus, nodes string) error
}

// stateOfCPUs is the file in DataDir that keeps who has which CPUs. It is the kubelet's name.
const stateOfCPUs = "cpu_manager_state"

// pinned is what a container has for itself.
type pinned struct {
	CPUs   cpus.Set `json:"cpus"`
	Nodes  cpus.Set `json:"numa,omitempty"` // its memory comes from these; none: from everywhere
	Memory int64    `json:"memory,omitempty"`
	Init   bool     `json:"init,omitempty"` // it has ended when another of the pod's starts
}

// pins are the static policy of Kubernetes' CPU manager, with the memory manager's and the topology manager's best
// effort: a container of a Guaranteed pod that asks for whole CPUs has them for itself, near to its devices, and its
// memory from the same NUMA nodes. All other containers share the rest.
type pins struct {
	machine  *cpus.Machine
	reserved cpus.Set // for the system: nobody's own
	log      *slog.Logger
	changed  chan struct{} // has room for one: the shared CPUs changed

	mu   sync.Mutex // guards the rest
	file string
	pods map[types.UID]map[string]pinned
}

type pinFile struct {
	Policy   string                          `json:"policyName"`
	Reserved cpus.Set                        `json:"reserved"`
	Online   cpus.Set                        `json:"online"`
	Entries  map[types.UID]map[string]pinned `json:"entries"`
}

func newPins(m *cpus.Machine, reserved int, log *slog.Logger) (*pins, error) {
	r, err := m.Choose(m.All(), reserved, nil)
	if err != nil {
		return nil, fmt.Errorf("reserve CPUs: %w", err)
	}
	if len(r) == len(m.CPUs) {
		return nil, fmt.Errorf("reserve CPUs: all %d of the machine", len(r))
	}
	return &pins{machine: m, reserved: r, log: log, changed: make(chan struct{}, 1), pods: map[types.UID]map[string]pinned{}}, nil
}

// load reads who has what. A file of other CPUs is an error, as the kubelet's is: containers may run on CPUs that would be
// given again.
func (p *pins) load(dir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file = filepath.Join(dir, stateOfCPUs)
	raw, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f pinFile
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err == nil && (f.Policy != CPUStatic || f.Reserved.String() != p.reserved.String() || f.Online.String() != p.machine.All().String()) {
		err = fmt.Errorf("it is of the CPUs %s with %s reserved, and there are %s with %s", f.Online, f.Reserved, p.machine.All(), p.reserved)
	}
	if err != nil {
		return fmt.Errorf("read who has which CPUs in %s: %w; drain the node and delete the file", p.file, err)
	}
	p.pods = f.Entries
	if p.pods == nil {
		p.pods = map[types.UID]map[string]pinned{}
	}
	return nil
}

// storeLocked replaces the file at once.
func (p *pins) storeLocked() error {
	raw, err := json.Marshal(pinFile{Policy: CPUStatic, Reserved: p.reserved, Online: p.machine.All(), Entries: p.pods})
	if err != nil {
		return fmt.Errorf("encode who has which CPUs: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(p.file), "."+stateOfCPUs+"-*")
	if err != nil {
		return fmt.Errorf("keep who has which CPUs: %w", err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), p.file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("keep who has which CPUs: %w", err)
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

// wholeCPUs is how many CPUs a container has for itself: those that it asks for, where they are whole and its pod is
// Guaranteed.
func wholeCPUs(pod *corev1.Pod, c *corev1.Container) int {
	q := c.Resources.Requests[corev1.ResourceCPU]
	if q.IsZero() {
		q = c.Resources.Limits[corev1.ResourceCPU]
	}
	if qosClass(pod) != corev1.PodQOSGuaranteed || q.MilliValue()%1000 != 0 {
		return 0
	}
	return int(q.MilliValue() / 1000)
}

// give gives a container its CPUs, or those that it has. What an init container has, a later one of the pod may have; ended are
// others of the pod that don't run any more.
func (p *pins) give(pod types.UID, name string, n int, memory int64, init bool, near cpus.Set, ended []corev1.Container) (pinned, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if has, ok := p.pods[pod][name]; ok && len(has.CPUs) == n {
		return has, nil
	}
	before := p.pods[pod]
	mine := map[string]pinned{}
	for other, has := range before {
		if !has.Init && other != name && !slices.ContainsFunc(ended, func(c corev1.Container) bool { return c.Name == other }) {
			mine[other] = has
		}
	}
	p.pods[pod] = mine // init containers have ended
	undo := func() {
		if p.pods[pod] = before; before == nil {
			delete(p.pods, pod)
		}
	}
	set, err := p.machine.Choose(p.sharedLocked().Minus(p.reserved), n, near)
	if err != nil {
		undo()
		return pinned{}, err
	}
	got := pinned{CPUs: set, Nodes: p.machine.Nodes(set), Memory: memory, Init: init}
	if !p.fitsLocked(got) {
		got.Nodes = nil
	}
	mine[name] = got
	if err := p.storeLocked(); err != nil {
		undo()
		return pinned{}, err
	}
	return got, nil
}

// fitsLocked says whether the memory of NUMA nodes is enough for one more container, beside those that have theirs
// from some of the same nodes.
func (p *pins) fitsLocked(c pinned) bool {
	room := int64(0)
	for _, n := range c.Nodes {
		room += p.machine.Memory[n]
	}
	for _, pod := range p.pods {
		for _, o := range pod {
			if slices.ContainsFunc(o.Nodes, c.Nodes.Has) {
				room -= o.Memory
			}
		}
	}
	return c.Memory <= room
}

// sharedLocked are the CPUs that are nobody's own.
func (p *pins) sharedLocked() cpus.Set {
	s := p.machine.All()
	for _, pod := range p.pods {
		for _, c := range pod {
			s = s.Minus(c.CPUs)
		}
	}
	return s
}

// place is where a container is to run: its own CPUs, or the shared ones.
func (p *pins) place(pod types.UID, name string) (cpuList, nodeList string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.pods[pod][name]; ok {
		return c.CPUs.String(), c.Nodes.String()
	}
	return p.sharedLocked().String(), ""
}

// release takes back what a pod has.
func (p *pins) release(pod types.UID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	had, ok := p.pods[pod]
	if !ok {
		return nil
	}
	delete(p.pods, pod)
	if err := p.storeLocked(); err != nil {
		p.pods[pod] = had
		return err
	}
	return nil
}

// keep releases what pods have that aren't among those that run.
func (p *pins) keep(running []types.UID) error {
	p.mu.Lock()
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(p.pods)), func(uid types.UID) bool { return slices.Contains(running, uid) })
	p.mu.Unlock()
	var errs []error
	for _, uid := range gone {
		errs = append(errs, p.release(uid))
	}
	return errors.Join(errs...)
}

// pin says in a container's spec where it runs. Engines that can't be told anew later are left alone.
func (w *worker) pin(pod *corev1.Pod, c *corev1.Container, spec *ContainerSpec, near []int) error {
	p := w.a.pins
	if _, can := w.engine.(CPUSetter); p == nil || !can {
		return nil
	}
	if n := wholeCPUs(pod, c); n > 0 {
		init := !isSidecar(c) && slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
		memory := c.Resources.Limits[corev1.ResourceMemory]
		var ended []corev1.Container
		if init { // the pod starts, for the first time or anew
			ended = pod.Spec.Containers
		}
		if _, err := p.give(w.uid, c.Name, n, memory.Value(), init, cpus.Of(near...), ended); err != nil {
			return err
		}
	}
	spec.Resources.CPUSet, spec.Resources.MemSet = p.place(w.uid, c.Name)
	return nil
}

// runPins moves containers that share CPUs whenever those change, and looks now and then, for a container that was made
// meanwhile.
func (a *Agent) runPins(ctx context.Context) {
	said := map[string]string{} // container → CPUs
	for sleepOr(ctx, look, a.pins.changed) {
		running := map[string]bool{}
		for _, w := range a.allWorkers() {
			w.mu.Lock()
			engine, live := w.engine, slices.Collect(maps.Values(w.live))
			w.mu.Unlock()
			setter, can := engine.(CPUSetter)
			if !can {
				continue
			}
			for _, c := range live {
				if c.State != Running {
					continue
				}
				running[c.ID] = true
				cpuList, nodes := a.pins.place(w.uid, c.Name)
				if said[c.ID] == cpuList {
					continue
				}
				if err := setter.SetCPUs(ctx, c.ID, cpuList, nodes); err != nil {
					a.log.Warn("move a container to other CPUs", "container", c.ID, "error", err)
					continue
				}
				said[c.ID] = cpuList
			}
		}
		maps.DeleteFunc(said, func(id, _ string) bool { return !running[id] })
	}
}
