package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

// Config says what a Registry serves and from where.
type Config struct {
	// Store holds the objects; its Run is the caller's.
	Store *raftstore.Store
	// Kinds are served; api.All() is the usual choice.
	Kinds []*api.Kind
	// Admitter is asked about every write after the built-in admission; nil admits all.
	Admitter Admitter
	// ServiceCIDR is where Services get their addresses from. Not valid: 10.96.0.0/12.
	ServiceCIDR netip.Prefix
	// Clock; nil is the system's.
	Clock clock.PassiveClock
	// Logger; nil discards.
	Logger *slog.Logger
	// RecentEvents is how many changes of each resource are kept in memory for watches that begin in the
	// past and watchers that lag; 0 is 4096. An older resourceVersion is answered with 410 Expired.
	RecentEvents int
	// EventTTL is how long Events are kept after their last change; 0 is an hour.
	EventTTL time.Duration
}

// Admitter takes part in every write. *policy.Engine satisfies it.
type Admitter interface {
	// Admit may change Request.Object, or have it become another (Request.Replace). An error refuses the write; one
	// of apimachinery's API errors is answered as it is, any other becomes a 403 that quotes it. What it tells Warn
	// reaches whoever writes. It is called concurrently, and again for a write that must be tried again.
	Admit(ctx context.Context, req Request) error
}

// The operations of a Request.
const (
	OperationCreate = "CREATE"
	OperationUpdate = "UPDATE"
	OperationDelete = "DELETE"
	// OperationConnect opens a connection to an object and writes nothing.
	OperationConnect = "CONNECT"
)

// Request is one write, as an Admitter sees it.
type Request struct {
	Operation       string    // OperationCreate, …
	Kind            *api.Kind // as which the object is stored: core Events for events.k8s.io, say
	As              *api.Kind // as which it is written: Kind, or another view of it
	Subresource     string    // "" is the object itself
	Namespace, Name string    // Name is "" when it is still to be generated
	User            string
	Groups          []string
	Object          api.Object // may be changed; nil for a deletion and a connection
	Old             api.Object // shared, must not be changed; nil for a creation and a connection
	DryRun          bool

	replaced *bool // set by Replace
}

// Registry is the write path and the cache. See the package's documentation.
type Registry struct {
	cfg       Config
	log       *slog.Logger
	clock     clock.PassiveClock
	kinds     []*api.Kind
	byGVR     map[schema.GroupVersionResource]*api.Kind
	resources map[schema.GroupVersionResource]*resource // by storage GVR
	byPrefix  map[string]*resource                      // by "<group|core>/<resource>"
	codec     *codec
	services  *allocator

	quotaTurns quotaTurns

	ran     atomic.Bool
	ready   chan struct{} // closed once the cache is filled
	stopped chan struct{} // closed once Run has ended

	eventLeases leases

	reached frontier
}

// New checks the configuration. It starts nothing and reads nothing: see Run.
func New(cfg Config) (*Registry, error) {
	if cfg.Store == nil {
		return nil, errors.New("registry: Config.Store is nil")
	}
	if len(cfg.Kinds) == 0 {
		return nil, errors.New("registry: Config.Kinds is empty: give it api.All()")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if !cfg.ServiceCIDR.IsValid() {
		cfg.ServiceCIDR = netip.MustParsePrefix("10.96.0.0/12")
	}
	if cfg.RecentEvents <= 0 {
		cfg.RecentEvents = 4096
	}
	if cfg.EventTTL <= 0 {
		cfg.EventTTL = time.Hour
	}
	services, err := newAllocator(cfg.ServiceCIDR)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r := &Registry{
		cfg: cfg, log: cfg.Logger, clock: cfg.Clock, kinds: cfg.Kinds, services: services,
		byGVR:     map[schema.GroupVersionResource]*api.Kind{},
		resources: map[schema.GroupVersionResource]*resource{},
		byPrefix:  map[string]*resource{},
		ready:     make(chan struct{}),
		stopped:   make(chan struct{}),
	}
	r.reached.init()
	for _, k := range cfg.Kinds {
		if r.byGVR[k.GVR()] != nil {
			return nil, fmt.Errorf("registry: two kinds are served as %s", k.GVR())
		}
		r.byGVR[k.GVR()] = k
		if k.StorageGVR() == k.GVR() {
			res := newResource(k, cfg.RecentEvents)
			r.resources[k.GVR()], r.byPrefix[resourcePath(k.GVR())] = res, res
		}
	}
	for _, k := range cfg.Kinds {
		if r.resources[k.StorageGVR()] == nil {
			return nil, fmt.Errorf("registry: %s is stored as %s, which is not served", k.GVR(), k.StorageGVR())
		}
		if k.StorageGVR() != k.GVR() && (k.ToStored == nil || k.FromStored == nil) {
			return nil, fmt.Errorf("registry: %s has no conversion to %s", k.GVR(), k.StorageGVR())
		}
	}
	services.parent = r.keptFor
	r.codec = newCodec()
	return r, nil
}

// Ready is closed once the cache holds everything that was stored when Run began.
func (r *Registry) Ready() <-chan struct{} { return r.ready }

// Kind returns the kind served under gvr, nil if none is.
func (r *Registry) Kind(gvr schema.GroupVersionResource) *api.Kind { return r.byGVR[gvr] }

// Kinds returns every kind that is served, in discovery order. The slice must not be changed.
func (r *Registry) Kinds() []*api.Kind { return r.kinds }

// ServiceCIDR is where Services get their addresses from.
func (r *Registry) ServiceCIDR() netip.Prefix { return r.cfg.ServiceCIDR }

func podsGVR() schema.GroupVersionResource { return corev1.SchemeGroupVersion.WithResource("pods") }
func namespacesGVR() schema.GroupVersionResource {
	return corev1.SchemeGroupVersion.WithResource("namespaces")
}
func quotasGVR() schema.GroupVersionResource {
	return corev1.SchemeGroupVersion.WithResource("resourcequotas")
}
func cidrsGVR() schema.GroupVersionResource {
	return networkingv1.SchemeGroupVersion.WithResource("servicecidrs")
}
func servicesGVR() schema.GroupVersionResource {
	return corev1.SchemeGroupVersion.WithResource("services")
}
