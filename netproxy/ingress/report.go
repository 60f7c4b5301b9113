package ingress

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// reportLoop writes what the owners of Ingresses should see: the addresses, and each problem once
// as a warning event. Failures are logged; the next change tries again.
func (c *Controller) reportLoop(ctx context.Context) error {
	told := map[problem]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.kick:
		}
		c.mu.Lock()
		problems, served := slices.Clone(c.problems), slices.Clone(c.served)
		c.mu.Unlock()
		now := map[problem]bool{}
		for _, p := range problems {
			now[p] = true
			if !told[p] {
				c.log.Warn("ingress problem", "ingress", p.ingress.String(), "problem", p.message)
				c.event(ctx, p, served)
			}
		}
		told = now
		for _, ing := range served {
			c.publish(ctx, ing)
		}
	}
}

func (c *Controller) event(ctx context.Context, p problem, served []*networkingv1.Ingress) {
	if c.cfg.Client == nil {
		return
	}
	ref := corev1.ObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Namespace: p.ingress.Namespace, Name: p.ingress.Name}
	for _, ing := range served {
		if (services.Key{Namespace: ing.Namespace, Name: ing.Name}) == p.ingress {
			ref.UID, ref.ResourceVersion = ing.UID, ing.ResourceVersion
		}
	}
	now := metav1.NewTime(time.Now())
	_, err := c.cfg.Client.CoreV1().Events(p.ingress.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: p.ingress.Name + ".", Namespace: p.ingress.Namespace},
		InvolvedObject: ref, Type: corev1.EventTypeWarning, Reason: "IngressProblem", Message: p.message, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: "pintle-ingress", Host: c.cfg.Name}, ReportingController: ControllerName, ReportingInstance: c.cfg.Name,
	}, metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		c.log.Warn("could not write event", "err", err)
	}
}

func (c *Controller) publish(ctx context.Context, ing *networkingv1.Ingress) {
	if c.cfg.Client == nil || len(c.cfg.Addresses) == 0 {
		return
	}
	var want []networkingv1.IngressLoadBalancerIngress
	for _, a := range c.cfg.Addresses {
		want = append(want, networkingv1.IngressLoadBalancerIngress{IP: a.String()})
	}
	if slices.EqualFunc(want, ing.Status.LoadBalancer.Ingress, func(a, b networkingv1.IngressLoadBalancerIngress) bool { return a.IP == b.IP }) {
		return
	}
	cp := ing.DeepCopy()
	cp.Status.LoadBalancer.Ingress = want
	if _, err := c.cfg.Client.NetworkingV1().Ingresses(ing.Namespace).UpdateStatus(ctx, cp, metav1.UpdateOptions{}); err != nil && ctx.Err() == nil {
		c.log.Debug("could not publish addresses", "ingress", ing.Namespace+"/"+ing.Name, "err", err)
	}
}
