package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/attachdetach"
	"github.com/pintle/pintle/orchestrator/controllers/clusterroleaggregation"
	"github.com/pintle/pintle/orchestrator/controllers/consolidation"
	"github.com/pintle/pintle/orchestrator/controllers/cronjob"
	"github.com/pintle/pintle/orchestrator/controllers/daemonset"
	"github.com/pintle/pintle/orchestrator/controllers/deployment"
	"github.com/pintle/pintle/orchestrator/controllers/devicetainteviction"
	"github.com/pintle/pintle/orchestrator/controllers/disruption"
	"github.com/pintle/pintle/orchestrator/controllers/endpointslice"
	"github.com/pintle/pintle/orchestrator/controllers/ephemeralvolume"
	"github.com/pintle/pintle/orchestrator/controllers/garbagecollector"
	"github.com/pintle/pintle/orchestrator/controllers/job"
	"github.com/pintle/pintle/orchestrator/controllers/kubernetesservice"
	"github.com/pintle/pintle/orchestrator/controllers/loadbalancer"
	"github.com/pintle/pintle/orchestrator/controllers/namespace"
	"github.com/pintle/pintle/orchestrator/controllers/nodeautoscaler"
	"github.com/pintle/pintle/orchestrator/controllers/nodelifecycle"
	"github.com/pintle/pintle/orchestrator/controllers/nodettl"
	"github.com/pintle/pintle/orchestrator/controllers/persistentvolume"
	"github.com/pintle/pintle/orchestrator/controllers/podautoscaler"
	"github.com/pintle/pintle/orchestrator/controllers/podgc"
	"github.com/pintle/pintle/orchestrator/controllers/recommender"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/replicaset"
	"github.com/pintle/pintle/orchestrator/controllers/resourceclaim"
	"github.com/pintle/pintle/orchestrator/controllers/resourcequota"
	"github.com/pintle/pintle/orchestrator/controllers/scaletozero"
	"github.com/pintle/pintle/orchestrator/controllers/serviceaccount"
	"github.com/pintle/pintle/orchestrator/controllers/servicecidr"
	"github.com/pintle/pintle/orchestrator/controllers/statefulset"
	"github.com/pintle/pintle/orchestrator/controllers/tainteviction"
	"github.com/pintle/pintle/orchestrator/controllers/tokencleaner"
	"github.com/pintle/pintle/orchestrator/controllers/ttlafterfinished"
	"github.com/pintle/pintle/orchestrator/controllers/volumeexpand"
	"github.com/pintle/pintle/orchestrator/controllers/volumeprotection"
)

// Config of the controllers. Client and Kinds are required; the rest has useful zero values.
type Config struct {
	Client  reconcile.Client
	Kinds   []*api.Kind // everything that the cluster serves: for namespace deletion and garbage collection
	Logger  *slog.Logger
	Clock   clock.WithDelayedExecution
	Metrics prometheus.Registerer

	Workers             int           // of deployments, replica sets and endpoint slices each; 0 is 4
	NodeGrace           time.Duration // a node's silence before it is unreachable; 0 is 40 s
	NodeRates           nodelifecycle.Rates
	TerminatedPods      int                    // ended pods kept; 0 is 12500, negative all
	NodeAutoscaling     *nodeautoscaler.Config // nil: nodes are neither asked for nor given back
	ServiceCIDR         netip.Prefix           // the range that the cluster was made with; not valid: no ServiceCIDR stands for it
	RootCA              []byte                 // PEM, published in every namespace; nil: not
	ServiceAccountToken serviceaccount.TokenFunc
	Autoscaling         podautoscaler.Config     // of HorizontalPodAutoscalers
	Usage               recommender.Metrics      // what pods use, for Recommendations; nil: those say that there is none
	KubernetesService   kubernetesservice.Config // no addresses: not published
	Consolidation       consolidation.Config     // of GPUs; the zero value is off
}

// Controllers runs every control loop.
type Controllers struct {
	env    reconcile.Env
	events *reconcile.Recorder
	loops  []*reconcile.Controller
	ready  chan struct{}
	ran    atomic.Bool
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Controllers, error) {
	if cfg.Client == nil {
		return nil, errors.New("controllers: Config.Client is required")
	}
	if len(cfg.Kinds) == 0 {
		return nil, errors.New("controllers: Config.Kinds is required")
	}
	metrics, err := reconcile.NewMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("controllers: %w", err)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 4
	}
	env := reconcile.Env{Client: cfg.Client, Clock: cfg.Clock, Logger: cfg.Logger, Metrics: metrics}.WithDefaults()
	events := reconcile.NewRecorder(env)
	var namespaced []schema.GroupVersionResource
	var owned []garbagecollector.Resource
	for _, k := range cfg.Kinds {
		if k.StoredAs.Resource != "" {
			continue
		}
		if k.Namespaced {
			namespaced = append(namespaced, k.GVR())
		}
		if k.GVR() != reconcile.Events() { // many, and owned by nobody
			owned = append(owned, garbagecollector.Resource{GVR: k.GVR(), Kind: k.GroupVersionKind, Namespaced: k.Namespaced})
		}
	}
	loops := []*reconcile.Controller{
		deployment.New(env, events, cfg.Workers),
		replicaset.New(env, events, cfg.Workers),
		statefulset.New(env, events, cfg.Workers),
		daemonset.New(env, events, cfg.Workers),
		endpointslice.New(env, cfg.Workers),
		nodelifecycle.New(env, events, cfg.NodeGrace, cfg.NodeRates),
		tainteviction.New(env, events),
		namespace.New(env, namespaced),
		garbagecollector.New(env, owned),
		podgc.New(env, cfg.TerminatedPods),
		disruption.New(env),
		tokencleaner.New(env),
		scaletozero.New(env, events, cfg.Kinds),
		nodettl.New(env),
	}
	if api.ByGVR(cfg.Kinds, reconcile.Jobs()) != nil {
		loops = append(loops, job.New(env, events, cfg.Workers), cronjob.New(env, events, cfg.Workers), ttlafterfinished.New(env))
	}
	if api.ByGVR(cfg.Kinds, reconcile.AddressPools()) != nil {
		loops = append(loops, loadbalancer.New(env, events))
	}
	if api.ByGVR(cfg.Kinds, reconcile.ServiceCIDRs()) != nil {
		loops = append(loops, servicecidr.New(env, events, cfg.ServiceCIDR)...)
	}
	if cfg.NodeAutoscaling != nil {
		loops = append(loops, nodeautoscaler.New(env, events, *cfg.NodeAutoscaling))
	}
	if api.ByGVR(cfg.Kinds, reconcile.ResourceQuotas()) != nil {
		loops = append(loops, resourcequota.New(env, cfg.Kinds))
	}
	if api.ByGVR(cfg.Kinds, clusterroleaggregation.ClusterRoles()) != nil {
		loops = append(loops, clusterroleaggregation.New(env))
	}
	if api.ByGVR(cfg.Kinds, resourceclaim.Claims()) != nil {
		loops = append(loops, resourceclaim.New(env, events, cfg.Workers), devicetainteviction.New(env, events))
	}
	if api.ByGVR(cfg.Kinds, reconcile.PersistentVolumes()) != nil {
		loops = append(loops, persistentvolume.New(env, events, cfg.Workers), volumeprotection.New(env), ephemeralvolume.New(env, events),
			volumeexpand.New(env, events), attachdetach.New(env, events))
	}
	if api.ByGVR(cfg.Kinds, podautoscaler.Autoscalers()) != nil {
		loops = append(loops, podautoscaler.New(env, events, cfg.Kinds, cfg.Autoscaling, cfg.Workers))
	}
	if api.ByGVR(cfg.Kinds, recommender.Recommendations()) != nil {
		loops = append(loops, recommender.New(env, cfg.Kinds, cfg.Usage))
	}
	loops = append(loops, serviceaccount.New(env, cfg.RootCA, cfg.ServiceAccountToken)...)
	if len(cfg.KubernetesService.Addresses) > 0 {
		loops = append(loops, kubernetesservice.New(env, cfg.KubernetesService))
	}
	if cfg.Consolidation.Enabled {
		loops = append(loops, consolidation.New(env, events, cfg.Consolidation))
	}
	return &Controllers{env: env, events: events, loops: loops, ready: make(chan struct{})}, nil
}

// Ready is closed once every loop has seen what there was.
func (c *Controllers) Ready() <-chan struct{} { return c.ready }

// Run runs every loop until ctx ends and all goroutines have ended; it returns nil then. It may be
// called once: make a new Controllers for the next leadership.
func (c *Controllers) Run(ctx context.Context) error {
	if c.ran.Swap(true) {
		return errors.New("controllers: Run was called before")
	}
	var g errgroup.Group
	var left atomic.Int64
	left.Store(int64(len(c.loops)))
	g.Go(func() error { return c.events.Run(ctx) })
	for _, l := range c.loops {
		g.Go(func() error {
			return l.Run(ctx, c.env, func() {
				if left.Add(-1) == 0 {
					close(c.ready)
				}
			})
		})
	}
	return g.Wait()
}
