package runtime

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/runtime/internal/mirror"
)

// objectCache gets ConfigMaps and Secrets on demand. For a second an answer serves everybody: fifty
// replicas that start together ask once.
type objectCache struct {
	client kubernetes.Interface
	mu     sync.Mutex
	items  map[string]*cached
}

type cached struct {
	once sync.Once
	at   time.Time
	obj  any
	err  error
}

const objectTTL = time.Second

func newObjectCache(c kubernetes.Interface) *objectCache {
	return &objectCache{client: c, items: map[string]*cached{}}
}

func (o *objectCache) get(key string, fetch func() (any, error)) (any, error) {
	o.mu.Lock()
	c := o.items[key]
	if c == nil || time.Since(c.at) > objectTTL {
		c = &cached{at: time.Now()}
		o.items[key] = c
		for k, x := range o.items {
			if time.Since(x.at) > 10*objectTTL {
				delete(o.items, k)
			}
		}
	}
	o.mu.Unlock()
	c.once.Do(func() { c.obj, c.err = fetch() })
	if c.err != nil {
		o.mu.Lock()
		if o.items[key] == c {
			delete(o.items, key) // an error isn't kept: it may have been this caller's context
		}
		o.mu.Unlock()
	}
	return c.obj, c.err
}

func (o *objectCache) configMap(ctx context.Context, ns, name string) (*corev1.ConfigMap, error) {
	v, err := o.get("cm/"+ns+"/"+name, func() (any, error) {
		return o.client.CoreV1().ConfigMaps(ns).Get(ctx, name, metav1.GetOptions{})
	})
	if err != nil {
		return nil, err
	}
	return v.(*corev1.ConfigMap), nil
}

func (o *objectCache) secret(ctx context.Context, ns, name string) (*corev1.Secret, error) {
	v, err := o.get("secret/"+ns+"/"+name, func() (any, error) {
		return o.client.CoreV1().Secrets(ns).Get(ctx, name, metav1.GetOptions{})
	})
	if err != nil {
		return nil, err
	}
	return v.(*corev1.Secret), nil
}

func objectKey(o metav1.Object) string { return mirror.Key(o) }
