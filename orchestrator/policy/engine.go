package policy

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/orchestrator/api"
)

// Config is what an Engine needs. Host is required.
type Config struct {
	Host Host
	// Image reads the one file of an image in the node's local store, for modules that name one. Nil: those fail.
	Image func(ctx context.Context, image string) ([]byte, error)
	// Embedded holds the modules that the program brings along. Nil: modules that name one fail.
	Embedded fs.FS
	// Patience is how long a write waits for a policy that is on its way; 0 is 10 s.
	Patience time.Duration
	Logger   *slog.Logger          // nil discards
	Metrics  prometheus.Registerer // nil: none
	Clock    clock.Clock           // nil: the machine's
}

// Client is what the engine sees of the cluster; *registry.Client satisfies it. Objects are shared and must not be
// changed.
type Client interface {
	Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error)
	List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, sel labels.Selector) ([]api.Object, error)
	Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error)
	Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object) (api.Object, error)
	// Bytes is what lies beside an object.
	Bytes(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) ([]byte, api.Stored, error)
}

// Engine has a host's policies decide. Make one with New; see the package's documentation.
type Engine struct {
	cfg     Config
	host    Host
	log     *slog.Logger
	metrics *metrics
	ran     atomic.Bool
	ready   chan struct{} // closed once the table is that of stored policies

	table  atomic.Pointer[table] // never nil
	client atomic.Pointer[Client]

	// mu guards what Report reads of Run's.
	mu      sync.Mutex
	reports map[reportKey]report
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Engine, error) {
	if cfg.Host == nil {
		return nil, errors.New("policy: Config.Host is nil")
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	e := &Engine{cfg: cfg, host: cfg.Host, log: cfg.Logger, ready: make(chan struct{}), reports: map[reportKey]report{}}
	var err error
	if e.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	e.table.Store(&table{replaced: make(chan struct{}), placing: make(chan struct{})})
	return e, nil
}

// Ready is closed once the stored policies have been read. Their modules may still be on their way.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// The resources that are followed.
func modulesGVR() schema.GroupVersionResource {
	return api.PolicyGroupVersion().WithResource("policymodules")
}
func admissionGVR() schema.GroupVersionResource {
	return api.PolicyGroupVersion().WithResource("admissionpolicies")
}
func schedulingGVR() schema.GroupVersionResource {
	return api.PolicyGroupVersion().WithResource("schedulingpolicies")
}

// Run brings the stored objects into the host until ctx ends; then it takes them out again and returns nil. It may
// be called once.
func (e *Engine) Run(ctx context.Context, client Client) error {
	if e.ran.Swap(true) {
		return errors.New("policy: Run was called before: make a new Engine")
	}
	e.client.Store(&client)
	group, ctx := errgroup.WithContext(ctx)
	changed := make(chan struct{}, 1) // something is stored that wasn't
	for _, gvr := range []schema.GroupVersionResource{modulesGVR(), admissionGVR(), schedulingGVR()} {
		group.Go(func() error { return e.follow(ctx, client, gvr, changed) })
	}
	s := newSyncer(e, client)
	group.Go(func() error { return s.run(ctx, group, changed) })
	err := group.Wait()
	s.clear()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// follow says when a resource has changed. What it has become is read from the cache.
func (e *Engine) follow(ctx context.Context, client Client, gvr schema.GroupVersionResource, changed chan<- struct{}) error {
	for wait := 10 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, time.Second) {
		w, err := client.Watch(ctx, gvr)
		if err != nil {
			if ctx.Err() == nil {
				e.log.Warn("watch failed", "resource", gvr.Resource, "error", err)
			}
		} else {
			for range w.ResultChan() {
				wait = 10 * time.Millisecond
				nudge(changed)
			}
			w.Stop()
			nudge(changed)
		}
		select {
		case <-e.cfg.Clock.After(wait):
		case <-ctx.Done():
		}
	}
	return nil
}

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// table is what is decided by: all of one moment. It is never changed.
type table struct {
	synced     bool // whether the stored policies have been read
	admission  []*admissionEntry
	scheduling map[string][]*schedulingEntry // by profile, in the order of their names
	replaced   chan struct{}                 // closed when there is a newer one
	// placing is closed when there is one that differs in scheduling.
	placing chan struct{}
}

// entry is what both kinds of policies have.
type entry struct {
	name string
	fail bool   // failurePolicy Fail
	down string // why it can't be asked; "": it can
	// coming says that it is on its way, so that it is worth waiting for.
	coming bool
}

// admissionEntry is an AdmissionPolicy that may be asked.
type admissionEntry struct {
	entry
	match  *matcher
	mutate bool
	order  int32
	mode   api.AdmissionPolicyMode
}

// schedulingEntry is a SchedulingPolicy that may be asked.
type schedulingEntry struct {
	entry
	weight        int32
	filter, score bool // which of both Place is for
	hooks         []string
	version       string // of the policy and its module
}

func (t *table) admissionPolicy(name string) *admissionEntry {
	for _, p := range t.admission {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (t *table) schedulingPolicy(name string) *schedulingEntry {
	for _, list := range t.scheduling {
		for _, p := range list {
			if p.name == name {
				return p
			}
		}
	}
	return nil
}
