package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/appliance"
)

// story is the quickstart's nine steps. Each leaves behind what the next ones need.
type story struct {
	timeline  *timeline
	appliance *appliance.Appliance
	dir       string
	slow      error // slowErrors of the steps so far
	updates   int   // how often step 6 rolls to v2
	exit      bool  // it ends after the story

	client     kubernetes.Interface
	images     map[string]string // version → reference
	service    target
	ingress    target
	kubeconfig string
}

func (s *story) tell(ctx context.Context) error {
	for i, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"cluster ready; node registered", s.clusterReady},
		{"Deployment of 3 replicas available", s.deploy},
		{"the Service answers by IP and by DNS name, from more than one pod", s.serve},
		{"the Ingress answers over HTTPS with the Secret's certificate", s.publish},
		{"a killed container is replaced", s.kill},
		{"rolling update to v2 under load", s.update},
		{"update to a broken v3 rolls back by itself", s.breakIt},
		{"the control plane restarts; containers keep serving, state is there", s.restart},
	} {
		if err := s.timeline.step(ctx, i+1, step.title, step.do); err != nil {
			return err
		}
	}
	s.timeline.say("9. done in %.1f s; the kubeconfig is %s", time.Since(s.timeline.start).Seconds(), s.kubeconfig)
	if s.exit {
		s.timeline.say("   without -exit it stays up, and these tell more:")
	}
	for _, command := range []string{"get pods -o wide", "rollout history deployment/demo", "get events --sort-by=.lastTimestamp"} {
		s.timeline.say("   kubectl --kubeconfig %s %s", s.kubeconfig, command)
	}
	return s.slow
}

// until asks every 50 ms until ok, and shows what it waits for.
func (s *story) until(ctx context.Context, check func() (ok bool, state string)) error {
	for {
		ok, state := check()
		if ok {
			return nil
		}
		s.timeline.waiting("%s", state)
		select {
		case <-ctx.Done():
			return errors.New(state)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *story) clusterReady(ctx context.Context) error {
	s.timeline.waiting("the API server")
	select {
	case <-s.appliance.Ready():
	case <-ctx.Done():
		return errors.New("the appliance did not become ready")
	}
	var err error
	if s.client, err = kubernetes.NewForConfig(s.appliance.RESTConfig()); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	kubeconfig, err := s.appliance.Kubeconfig()
	if err != nil {
		return err
	}
	s.kubeconfig = filepath.Join(s.dir, "kubeconfig")
	if err := os.WriteFile(s.kubeconfig, kubeconfig, 0o600); err != nil {
		return err
	}
	if err := s.until(ctx, func() (bool, string) {
		nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, "list nodes: " + err.Error()
		}
		for i := range nodes.Items {
			for _, condition := range nodes.Items[i].Status.Conditions {
				if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
					return true, ""
				}
			}
		}
		return false, "a ready node"
	}); err != nil {
		return err
	}
	s.images = map[string]string{}
	for _, version := range []string{"v1", "v2", "v3"} {
		s.timeline.waiting("building and importing the image of %s", version)
		archive, reference, err := buildImage(ctx, s.dir, version, s.appliance.Wasm())
		if err != nil {
			return err
		}
		if err := s.appliance.ImportImages(ctx, bytes.NewReader(archive)); err != nil {
			return err
		}
		s.images[version] = reference
	}
	return nil
}

func (s *story) deploy(ctx context.Context) error {
	if _, err := s.client.AppsV1().Deployments(namespace).Create(ctx, deployment(s.images["v1"], s.appliance.Wasm()), metav1.CreateOptions{}); err != nil {
		return err
	}
	return s.available(ctx, "v1")
}

// available waits until the Deployment's status says that all of it runs the version.
func (s *story) available(ctx context.Context, version string) error {
	return s.until(ctx, func() (bool, string) {
		d, err := s.client.AppsV1().Deployments(namespace).Get(ctx, appName, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		image := d.Spec.Template.Spec.Containers[0].Image
		done := image == s.images[version] && d.Status.ObservedGeneration >= d.Generation &&
			d.Status.UpdatedReplicas == 3 && d.Status.AvailableReplicas == 3 && d.Status.Replicas == 3
		return done, fmt.Sprintf("%s: %d updated, %d available of 3 (%s)", image, d.Status.UpdatedReplicas, d.Status.AvailableReplicas, s.podStates(ctx))
	})
}

// podStates is one word on each pod, for the progress line and for failures.
func (s *story) podStates(ctx context.Context) string {
	pods, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	var states []string
	for i := range pods.Items {
		state := string(pods.Items[i].Status.Phase)
		for _, status := range pods.Items[i].Status.ContainerStatuses {
			if w := status.State.Waiting; w != nil {
				state = w.Reason
			} else if status.Ready {
				state = "Ready"
			}
		}
		for _, condition := range pods.Items[i].Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				state = condition.Message
			}
		}
		states = append(states, state)
	}
	return strings.Join(states, ", ")
}

func (s *story) serve(ctx context.Context) error {
	created, err := s.client.CoreV1().Services(namespace).Create(ctx, service(), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	address := net.JoinHostPort(created.Spec.ClusterIP, "80")
	s.service = target{name: "Service", url: "http://" + address + "/"}
	if err := s.until(ctx, func() (bool, string) {
		s.service.addr = s.appliance.StandIn(address)
		return s.service.addr != "", "a stand-in for " + address
	}); err != nil {
		return err
	}
	if s.service.addr != address {
		s.timeline.say("   %s stands in for the Service's %s, %s for DNS", s.service.addr, address, s.appliance.DNSAddress())
	}
	if err := s.fromSeveralPods(ctx, s.service); err != nil {
		return err
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.appliance.DNSAddress())
	}}
	name := appName + "." + namespace + ".svc.cluster.local."
	return s.until(ctx, func() (bool, string) {
		addresses, err := resolver.LookupHost(ctx, name)
		if err != nil {
			return false, err.Error()
		}
		return slices.Contains(addresses, created.Spec.ClusterIP), fmt.Sprintf("%s is %v", name, addresses)
	})
}

// fromSeveralPods asks over fresh connections until two pods have answered.
func (s *story) fromSeveralPods(ctx context.Context, t target) error {
	transport := t.transport(true)
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	pods := map[string]bool{}
	return s.until(ctx, func() (bool, string) {
		_, pod, err := t.get(ctx, client)
		if err != nil {
			return false, err.Error()
		}
		pods[pod] = true
		return len(pods) > 1, fmt.Sprintf("%d pods answered", len(pods))
	})
}

func (s *story) publish(ctx context.Context) error {
	secret, pool, err := certificate()
	if err != nil {
		return err
	}
	if _, err := s.client.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := s.client.NetworkingV1().Ingresses(namespace).Create(ctx, ingress(), metav1.CreateOptions{}); err != nil {
		return err
	}
	s.ingress = s.ingressTarget(pool)
	if s.appliance.Wasm() {
		s.timeline.say("   %s stands in for port 443", s.ingress.addr)
	}
	if err := s.fromSeveralPods(ctx, s.ingress); err != nil {
		return err
	}
	return s.until(ctx, func() (bool, string) {
		i, err := s.client.NetworkingV1().Ingresses(namespace).Get(ctx, appName, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return len(i.Status.LoadBalancer.Ingress) > 0, "the Ingress's address in its status"
	})
}

func (s *story) ingressTarget(pool *x509.CertPool) target {
	return target{name: "Ingress", url: "https://" + hostName + "/", host: hostName, addr: s.appliance.HTTPSAddress(), ca: pool}
}

func (s *story) kill(ctx context.Context) error {
	pods, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + appName})
	if err != nil {
		return err
	}
	if len(pods.Items) == 0 {
		return errors.New("there is no pod to kill a container of")
	}
	victim := pods.Items[0]
	before := victim.Status.ContainerStatuses[0].RestartCount
	began := time.Now()
	if err := s.appliance.KillContainer(ctx, victim.Status.ContainerStatuses[0].ContainerID); err != nil {
		return err
	}
	err = s.until(ctx, func() (bool, string) {
		pod, err := s.client.CoreV1().Pods(namespace).Get(ctx, victim.Name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		status := pod.Status.ContainerStatuses[0]
		return status.RestartCount > before && status.Ready, fmt.Sprintf("pod %s: restarts %d, ready %v", pod.Name, status.RestartCount, status.Ready)
	})
	if err == nil {
		s.timeline.say("   the replacement serves %.0f ms after the kill", time.Since(began).Seconds()*1000)
	}
	return err
}

func (s *story) setImage(ctx context.Context, version string) error {
	patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"demoserver","image":%q}]}}}}`, s.images[version])
	_, err := s.client.AppsV1().Deployments(namespace).Patch(ctx, appName, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// underLoad sends requests through both ways in while do runs, and fails if any of them failed. Too few
// of them are kept for the story's end: they are the host's fault, and the rest is still worth telling.
func (s *story) underLoad(ctx context.Context, step string, do func() error) error {
	l := startLoad(ctx, []target{s.service, s.ingress})
	began := time.Now()
	err := do()
	if err == nil && time.Since(began) < 3*time.Second { // enough to mean something
		select {
		case <-time.After(3*time.Second - time.Since(began)):
		case <-ctx.Done():
		}
	}
	requests, failed, rate, reasons := l.finish()
	s.timeline.say("   %d requests (%.0f/s), %d failed", requests, rate, failed)
	switch {
	case failed > 0:
		return errors.Join(err, fmt.Errorf("%d of %d requests failed: %v", failed, requests, reasons))
	case err != nil:
		return err
	case rate < leastRate:
		s.slow = errors.Join(s.slow, &slowError{step, rate})
	}
	return nil
}

// update rolls to v2; asked for more updates, it goes back to v1 and on to v2 again, that many times.
func (s *story) update(ctx context.Context) error {
	return s.underLoad(ctx, "the rolling update", func() error {
		for i := range 2*s.updates - 1 {
			version := []string{"v2", "v1"}[i%2]
			if err := s.setImage(ctx, version); err != nil {
				return err
			}
			if err := s.available(ctx, version); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *story) breakIt(ctx context.Context) error {
	return s.underLoad(ctx, "the rollback", func() error {
		if err := s.setImage(ctx, "v3"); err != nil {
			return err
		}
		if err := s.until(ctx, func() (bool, string) {
			d, err := s.client.AppsV1().Deployments(namespace).Get(ctx, appName, metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			return rolledBack(d) && d.Spec.Template.Spec.Containers[0].Image == s.images["v2"],
				"v3 to be given up (" + s.podStates(ctx) + ")"
		}); err != nil {
			return err
		}
		return s.available(ctx, "v2")
	})
}

func rolledBack(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
		return c.Type == api.ConditionRolledBack && c.Status == corev1.ConditionTrue
	})
}

func (s *story) restart(ctx context.Context) error {
	before, err := s.client.AppsV1().Deployments(namespace).Get(ctx, appName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	restarts, err := s.restarts(ctx)
	if err != nil {
		return err
	}
	return s.underLoad(ctx, "the restart", func() error {
		s.timeline.waiting("the control plane")
		if err := s.appliance.RestartControlPlane(ctx); err != nil {
			return err
		}
		after, err := s.client.AppsV1().Deployments(namespace).Get(ctx, appName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if after.UID != before.UID {
			return errors.New("the Deployment is not the one that was there before")
		}
		if err := s.available(ctx, "v2"); err != nil {
			return err
		}
		now, err := s.restarts(ctx)
		if err != nil {
			return err
		}
		if now != restarts {
			return fmt.Errorf("containers did not keep running: before %s, after %s", restarts, now)
		}
		return nil
	})
}

// restarts names every container that runs and shall stay, by pod.
func (s *story) restarts(ctx context.Context) (string, error) {
	pods, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + appName})
	if err != nil {
		return "", err
	}
	var out []string
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp != nil {
			continue // the broken update's last pod may still be ending
		}
		for _, status := range pods.Items[i].Status.ContainerStatuses {
			out = append(out, pods.Items[i].Name+"="+status.ContainerID)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " "), nil
}
