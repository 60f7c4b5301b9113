// Package serviceaccount gives every namespace its default ServiceAccount and the cluster's CA,
// and fills Secrets that ask for a service account's token.
package serviceaccount

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// TokenFunc issues the long-lived token of a token Secret.
type TokenFunc func(ctx context.Context, account *corev1.ServiceAccount, secret *corev1.Secret) (string, error)

type shell struct {
	env   reconcile.Env
	ca    []byte
	token TokenFunc
}

// New makes both controllers. Without a CA no ConfigMap is published; without a TokenFunc token
// Secrets stay as they are.
func New(env reconcile.Env, ca []byte, token TokenFunc) []*reconcile.Controller {
	c := &shell{env.WithDefaults(), ca, token}
	byNamespace := func(name string) func(context.Context, reconcile.Event, func(reconcile.Key)) error {
		return func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if e.Object.GetName() == name {
				enqueue(reconcile.Key{Name: e.Object.GetNamespace()})
			}
			return nil
		}
	}
	out := []*reconcile.Controller{{Name: "serviceaccount-controller", Workers: 2, Reconcile: c.namespace, Watches: []reconcile.Watch{
		{Resource: reconcile.Namespaces()},
		{Resource: reconcile.ServiceAccounts(), Map: byNamespace("default")},
		{Resource: reconcile.ConfigMaps(), Map: byNamespace("kube-root-ca.crt")},
	}}}
	if token != nil {
		out = append(out, &reconcile.Controller{Name: "token-controller", Workers: 1, Reconcile: c.secret, Watches: []reconcile.Watch{
			{Resource: reconcile.Secrets()},
			{Resource: reconcile.ServiceAccounts(), Map: func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
				secrets, err := reconcile.List[*corev1.Secret](ctx, c.env.Client, reconcile.Secrets(), e.Object.GetNamespace(), nil)
				if err != nil {
					return err
				}
				for _, s := range secrets {
					if s.Annotations[corev1.ServiceAccountNameKey] == e.Object.GetName() {
						enqueue(reconcile.KeyOf(s))
					}
				}
				return nil
			}},
		}})
	}
	return out
}

func (c *shell) namespace(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	ns, err := reconcile.Get[*corev1.Namespace](ctx, cl, reconcile.Namespaces(), "", k.Name)
	if err != nil || ns == nil || ns.DeletionTimestamp != nil {
		return 0, err
	}
	sa, err := reconcile.Get[*corev1.ServiceAccount](ctx, cl, reconcile.ServiceAccounts(), k.Name, "default")
	if err != nil {
		return 0, err
	}
	if sa == nil {
		n := &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Namespace: k.Name, Name: "default"}}
		if _, err := cl.Create(ctx, reconcile.ServiceAccounts(), n); err != nil && !apierrors.IsAlreadyExists(err) {
			return 0, fmt.Errorf("create service account: %w", err)
		}
	}
	if len(c.ca) == 0 {
		return 0, nil
	}
	cm, err := reconcile.Get[*corev1.ConfigMap](ctx, cl, reconcile.ConfigMaps(), k.Name, "kube-root-ca.crt")
	if err != nil {
		return 0, err
	}
	data := map[string]string{"ca.crt": string(c.ca)}
	switch {
	case cm == nil:
		n := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: data, ObjectMeta: metav1.ObjectMeta{Namespace: k.Name, Name: "kube-root-ca.crt",
			Annotations: map[string]string{"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."}}}
		if _, err := cl.Create(ctx, reconcile.ConfigMaps(), n); err != nil && !apierrors.IsAlreadyExists(err) {
			return 0, fmt.Errorf("create CA config map: %w", err)
		}
	case len(cm.Data) != 1 || cm.Data["ca.crt"] != data["ca.crt"] || len(cm.BinaryData) > 0:
		n := cm.DeepCopy()
		n.Data, n.BinaryData = data, nil
		if _, err := cl.Update(ctx, reconcile.ConfigMaps(), "", n); err != nil {
			return 0, fmt.Errorf("update CA config map: %w", err)
		}
	}
	return 0, nil
}

func (c *shell) secret(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	s, err := reconcile.Get[*corev1.Secret](ctx, cl, reconcile.Secrets(), k.Namespace, k.Name)
	if err != nil || s == nil || s.Type != corev1.SecretTypeServiceAccountToken || s.DeletionTimestamp != nil {
		return 0, err
	}
	name := s.Annotations[corev1.ServiceAccountNameKey]
	sa, err := reconcile.Get[*corev1.ServiceAccount](ctx, cl, reconcile.ServiceAccounts(), k.Namespace, name)
	if err != nil {
		return 0, err
	}
	if uid := s.Annotations[corev1.ServiceAccountUIDKey]; sa == nil || uid != "" && uid != string(sa.UID) {
		su := s.UID
		if err := cl.Delete(ctx, reconcile.Secrets(), k.Namespace, k.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &su}}); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("delete token of a missing account: %w", err)
		}
		return 0, nil
	}
	if len(s.Data[corev1.ServiceAccountTokenKey]) > 0 && s.Annotations[corev1.ServiceAccountUIDKey] != "" &&
		string(s.Data[corev1.ServiceAccountRootCAKey]) == string(c.ca) && string(s.Data[corev1.ServiceAccountNamespaceKey]) == k.Namespace {
		return 0, nil
	}
	n := s.DeepCopy()
	if n.Data == nil {
		n.Data = map[string][]byte{}
	}
	if len(n.Data[corev1.ServiceAccountTokenKey]) == 0 {
		t, err := c.token(ctx, sa, s)
		if err != nil {
			return 0, fmt.Errorf("issue token: %w", err)
		}
		n.Data[corev1.ServiceAccountTokenKey] = []byte(t)
	}
	n.Data[corev1.ServiceAccountRootCAKey], n.Data[corev1.ServiceAccountNamespaceKey] = c.ca, []byte(k.Namespace)
	n.Annotations[corev1.ServiceAccountUIDKey] = string(sa.UID)
	if _, err := cl.Update(ctx, reconcile.Secrets(), "", n); err != nil {
		return 0, fmt.Errorf("fill token secret: %w", err)
	}
	return 0, nil
}
