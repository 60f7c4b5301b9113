package scheduler

import (
	"context"
	"errors"
	"log/slog"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
)

// Observe is Explain without a scheduler that runs: it reads everything through the config's Client, explains the
// decision on one pod, and writes nothing. Where another member leads, or from a backup, it answers as the scheduler
// would, but for Config.Policy, which belongs to whoever schedules: leave it out.
func Observe(ctx context.Context, cfg Config, namespace, name string) (*Explanation, error) {
	if cfg.Client != nil {
		cfg.Client = observer{cfg.Client}
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // what it would say is what it doesn't do
	cfg.BindWriters = 1
	s, err := New(cfg)
	if err != nil {
		return nil, err
	}
	s.cfg.observe = true
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	defer func() {
		stop()
		<-ended
	}()
	select {
	case <-s.Ready():
		return s.Explain(ctx, namespace, name)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// observer reads and writes nothing.
type observer struct{ Client }

var errObserving = errors.New("this scheduler only observes")

func (observer) Create(context.Context, schema.GroupVersionResource, api.Object) (api.Object, error) {
	return nil, errObserving
}

func (observer) Update(context.Context, schema.GroupVersionResource, string, api.Object) (api.Object, error) {
	return nil, errObserving
}

func (observer) Delete(context.Context, schema.GroupVersionResource, string, string, metav1.DeleteOptions) error {
	return errObserving
}

func (observer) Bind(context.Context, string, string, types.UID, string, map[string]string) error {
	return errObserving
}
