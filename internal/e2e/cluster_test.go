package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Evicted after three seconds on a node that is away, as the documented taints allow.
const webManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: example.com/web:1
        ports: [{containerPort: 8080}]
        env: [{name: ROUND, value: "1"}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: web.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
`

// A box on a node stays whatever becomes of the node.
const boxManifest = `
apiVersion: v1
kind: Pod
metadata: {name: box-%[1]s, labels: {app: box}}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers:
  - name: box
    image: example.com/busybox:1
    command: [sh, -c, "echo box on %[1]s; exec httpd -f -p 8080 -h /www"]
---
`

func (m *machine) ingress() target {
	return target{name: "the Ingress at " + m.spec.Node, url: "http://" + m.spec.At + "/", host: "web.example.com"}
}

func (m *machine) service() target {
	return target{name: "the Service at " + m.spec.Node, url: "http://" + m.spec.At + ":30080/"}
}

// The whole product on five machines: three members of the control plane that run pods too, and two workers, of which
// one is behind a router.
func TestCluster(t *testing.T) {
	c := startTrio(t)
	ctx := context.Background()
	k := newKubectl(t, c.members[0].kubeconfig(t))
	boxes := ""
	for _, m := range c.all {
		boxes += fmt.Sprintf(boxManifest, m.spec.Node)
	}
	k.ok(webManifest+"---"+boxes, words("apply -f -"), "deployment.apps/web created")
	k.ok("", words("wait --for=condition=Ready pod -l app=box --timeout=120s"), "condition met")
	k.ok("", words("rollout status deployment/web --timeout=120s"), "successfully rolled out")
	if t.Failed() {
		t.Log(k.run("", words("get nodes,members,pods -o wide")...))
		t.Log(k.run("", words("describe pods")...))
		t.FailNow()
	}

	t.Run("what a person sees", func(t *testing.T) { c.seen(t) })
	t.Run("pods and Services across machines", func(t *testing.T) { c.reached(t) })
	t.Run("every node through every member", func(t *testing.T) { c.carried(t) })
	if t.Failed() {
		return
	}
	t.Run("the leader is killed during a rollout under load", func(t *testing.T) { c.leaderKilled(t, ctx) })
	if t.Failed() {
		return
	}
	t.Run("the machines are upgraded one by one", func(t *testing.T) { c.upgraded(t) })
	if t.Failed() {
		return
	}
	t.Run("the leader and a worker are cut off", func(t *testing.T) { c.cutOff(t, ctx) })
}

func (c *trio) seen(t *testing.T) {
	for _, m := range c.members {
		k := newKubectl(t, m.kubeconfig(t))
		nodes := k.ok("", words("get nodes -o wide"))
		members := k.ok("", words("get members"), "m1", "m2", "m3", "Voter")
		for _, of := range c.all {
			if !strings.Contains(nodes, of.spec.Node) || !strings.Contains(nodes, of.spec.At) {
				t.Errorf("%s does not show %s at %s:\n%s", m.spec.Node, of.spec.Node, of.spec.At, nodes)
			}
		}
		if strings.Contains(nodes, "NotReady") {
			t.Errorf("%s:\n%s", m.spec.Node, nodes)
		}
		k.ok("", []string{"get", "--raw", "/readyz?verbose"}, "[+]store ok", "[+]registry ok", "readyz check passed")
		if m == c.members[0] {
			t.Logf("\n%s\n%s", nodes, members)
		}
	}
	// Nobody joins with a wrong token, or with one that was revoked, and is told so.
	k := newKubectl(t, c.members[1].kubeconfig(t))
	for _, secret := range words(k.ok("", words("get secrets -n kube-system -o name"))) {
		if strings.Contains(secret, "bootstrap-token-") {
			k.ok("", []string{"delete", "-n", "kube-system", secret}, "deleted")
		}
	}
	token := c.workers[0].spec.Token
	c.refused(t, token)
	c.refused(t, token[:len(token)-2]+"xx")
}

func (c *trio) refused(t *testing.T, token string) {
	stranger := newMachine(t, c.dir, "stranger", "198.18.77.8")
	c.plug(t, stranger, 8)
	stranger.spec.Join, stranger.spec.Worker = []string{"198.18.77.1:6443"}, true
	stranger.spec.Token = token
	stranger.start(t)
	defer func() {
		stranger.teardown(t)
		stranger.off(t)
	}()
	select {
	case <-stranger.exited:
		if said := stranger.said(); !strings.Contains(said, "token") {
			t.Errorf("a wrong token is refused with %q", said)
		}
	case <-time.After(time.Minute):
		t.Errorf("a machine with a wrong token still tries: %s", stranger.said())
	}
}

// reached: from a pod on every node to every pod by its address, to a Service by its name, and from outside through
// every node.
func (c *trio) reached(t *testing.T) {
	k := newKubectl(t, c.members[0].kubeconfig(t))
	pods, err := c.members[0].client(t).CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{LabelSelector: "app=box"})
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -e; ")
	for _, pod := range pods.Items {
		fmt.Fprintf(&script, "wget -qO- http://%s:8080/ || { echo no way to %s; exit 1; }; ", pod.Status.PodIP, pod.Name)
	}
	script.WriteString("wget -qO- http://web.default.svc.cluster.local/ || { echo no way to the Service; exit 1; }; echo all answered")
	var asking sync.WaitGroup
	for _, m := range c.all {
		asking.Go(func() {
			k.ok("", []string{"exec", "box-" + m.spec.Node, "--", "sh", "-c", script.String()}, "all answered")
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			for _, to := range []target{m.ingress(), m.service()} {
				for range 10 { // whichever pod is chosen
					err := get(client, to)
					for tries := 0; err != nil && tries < 5; tries++ { // the kernel may remember for a moment that a machine was cut off
						time.Sleep(time.Second)
						err = get(client, to)
					}
					if err != nil {
						t.Errorf("%s: %v", to.name, err)
					}
				}
			}
		})
	}
	asking.Wait()
	c.far.sh(t, "ip -d link show type vxlan | grep -q vxlan") // the others are behind a router
}

// linked waits until the nodes are connected to every member.
func (c *trio) linked(t *testing.T, nodes ...*machine) {
	t.Helper()
	for _, member := range c.members {
		client := member.client(t)
		for _, m := range nodes {
			eventually(t, m.spec.Node+" is reached through "+member.spec.Node, func() error {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				_, err := client.CoreV1().Pods("default").GetLogs("box-"+m.spec.Node, &corev1.PodLogOptions{}).DoRaw(ctx)
				return err
			})
		}
	}
}

// carried: logs and exec of a pod on every node, and a port-forward, through every member.
func (c *trio) carried(t *testing.T) {
	c.linked(t, c.all...) // workers learn of members that come after them
	var asking sync.WaitGroup
	for i, member := range c.members {
		k := newKubectl(t, member.kubeconfig(t))
		asking.Go(func() {
			for _, m := range c.all {
				k.ok("", []string{"logs", "box-" + m.spec.Node}, "box on "+m.spec.Node)
				k.ok("", []string{"exec", "box-" + m.spec.Node, "--", "echo", "inside"}, "inside")
			}
			k.portForward("pod/box-"+c.all[i+2].spec.Node, 8080)
		})
	}
	asking.Wait()
}

// resumed measures from a moment on: the first write through the survivors, and a Deployment whose pod has been made
// by the controllers and bound by the scheduler.
func (c *trio) resumed(t *testing.T, since time.Time, name string, survivors []*machine) {
	t.Helper()
	replicas := int32(1)
	labels := map[string]string{"app": name}
	var writing sync.WaitGroup
	for _, m := range survivors {
		client := m.client(t)
		writing.Go(func() {
			eventually(t, "a write through "+m.spec.Node, func() error {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}}, metav1.CreateOptions{})
				return err
			})
			t.Logf("%s took a write %v after", m.spec.Node, time.Since(since).Round(time.Millisecond))
		})
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/web:1"}}}}}}
	client := survivors[0].client(t)
	eventually(t, "a deployment is created", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := client.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{})
		return err
	})
	eventually(t, "its pod is bound", func() error {
		list, err := client.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err == nil && (len(list.Items) == 0 || list.Items[0].Spec.NodeName == "") {
			err = fmt.Errorf("%d pods", len(list.Items))
		}
		return err
	})
	t.Logf("controllers and scheduler had made and bound a new pod %v after", time.Since(since).Round(time.Millisecond))
	writing.Wait()
}

func (c *trio) others(gone ...*machine) (members, all []*machine) {
next:
	for _, m := range c.all {
		for _, g := range gone {
			if m == g {
				continue next
			}
		}
		all = append(all, m)
		if !m.spec.Worker {
			members = append(members, m)
		}
	}
	return members, all
}

func targetsOf(machines []*machine) (targets []target) {
	for _, m := range machines {
		targets = append(targets, m.ingress(), m.service())
	}
	return targets
}

func (c *trio) leaderKilled(t *testing.T, ctx context.Context) {
	leader := c.leader(t)
	members, all := c.others(leader)
	k := newKubectl(t, members[0].kubeconfig(t))
	count := startCounter(t, failover(t, members), c.readers(t, members, leader), "")
	l := startLoad(targetsOf(all), 30)
	client := members[0].client(t)
	time.Sleep(2 * time.Second) // load before
	k.ok("", words("set env deployment/web ROUND=2"), "env updated")
	eventually(t, "the rollout is under way", func() error { return rolledOut(ctx, client, 1) })
	killed := time.Now()
	leader.signal(t, syscall.SIGKILL)
	<-leader.exited
	c.resumed(t, killed, "after-kill", members)
	for _, m := range members {
		newKubectl(t, m.kubeconfig(t)).ok("", words("get pods -o wide"), "web-")
	}
	time.Sleep(3 * time.Second) // the survivors alone
	leader.start(t)
	leader.waitReady(t)
	eventually(t, "the rollout ends", func() error { return rolledOut(ctx, client, 5) })
	l.end(t, func(string) bool { return false })
	count.end(t)
}

const failsOver = "a client that fails over"

// readers are informers' servers: each of the members, and one that begins at the leader and fails over.
func (c *trio) readers(t *testing.T, members []*machine, leader *machine) map[string]*rest.Config {
	readers := map[string]*rest.Config{failsOver: failover(t, append([]*machine{leader}, members...))}
	for _, m := range members {
		readers[m.spec.Node] = m.restConfig(t)
	}
	return readers
}

func rolledOut(ctx context.Context, client kubernetes.Interface, updated int32) error {
	callCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d, err := client.AppsV1().Deployments("default").Get(callCtx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	s := d.Status
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas < updated || updated == *d.Spec.Replicas && (s.AvailableReplicas < updated || s.Replicas > updated) {
		return fmt.Errorf("%+v", s)
	}
	return nil
}

// cutOff takes the cable out of the leader's machine and of a worker's. Their pods run on, and are replaced; once the
// machines are back, they are caught up.
func (c *trio) cutOff(t *testing.T, ctx context.Context) {
	leader, worker := c.leader(t), c.workers[0]
	members, all := c.others(leader, worker)
	client := members[0].client(t)
	before, err := client.CoreV1().Pods("default").Get(ctx, "box-"+worker.spec.Node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count := startCounter(t, failover(t, members), c.readers(t, members, leader), failsOver)
	l := startLoad(targetsOf(all), 35)
	time.Sleep(2 * time.Second)
	newKubectl(t, members[0].kubeconfig(t)).ok("", words("set env deployment/web ROUND=3"), "env updated")
	eventually(t, "the rollout is under way", func() error { return rolledOut(ctx, client, 1) })
	cut := time.Now()
	c.cut(t, leader)
	c.cut(t, worker)
	c.resumed(t, cut, "after-cut", members)
	eventually(t, "the pods of the machines that are away are replaced", func() error {
		list, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			pod := &list.Items[i]
			away := pod.Spec.NodeName == leader.spec.Node || pod.Spec.NodeName == worker.spec.Node
			if away && pod.DeletionTimestamp == nil {
				return fmt.Errorf("%s is still on %s", pod.Name, pod.Spec.NodeName)
			}
			if !away && podReady(pod) {
				ready++
			}
		}
		if ready < 5 {
			return fmt.Errorf("%d are ready", ready)
		}
		return nil
	})
	t.Logf("all replicas were ready elsewhere %v after the cut", time.Since(cut).Round(time.Millisecond))
	// Nobody has told the worker: its pods run and serve there.
	worker.sh(t, "busybox wget -qO- http://%s:8080/", before.Status.PodIP)
	l.end(t, func(target string) bool { return strings.HasPrefix(target, "the Service") })
	count.end(t)

	mended := time.Now()
	c.mend(t, leader)
	c.mend(t, worker)
	c.servicesCaughtUp(t, mended, leader, worker)
	eventually(t, "the machines are back and caught up", func() error {
		for _, name := range []string{leader.spec.Node, worker.spec.Node} {
			node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, condition := range node.Status.Conditions {
				if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
					return fmt.Errorf("%s is not ready", name)
				}
			}
		}
		list, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if pod := &list.Items[i]; pod.DeletionTimestamp != nil {
				return fmt.Errorf("%s on %s has not ended", pod.Name, pod.Spec.NodeName)
			}
		}
		return nil
	})
	t.Logf("both machines were ready and had ended what had been replaced %v after they were back", time.Since(mended).Round(time.Millisecond))
	after, err := client.CoreV1().Pods("default").Get(ctx, before.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := after.Status.ContainerStatuses[0], before.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID || a.RestartCount != b.RestartCount {
		t.Errorf("the pod that stayed on the worker was container %s, restarted %d times, and is %s, %d", b.ContainerID, b.RestartCount, a.ContainerID, a.RestartCount)
	}
	// The member that was cut off serves what happened meanwhile.
	eventually(t, "the member that was away serves the present", func() error {
		_, err := leader.client(t).AppsV1().Deployments("default").Get(ctx, "after-cut", metav1.GetOptions{})
		return err
	})
	c.linked(t, leader, worker)
	t.Logf("every member reached both nodes %v after they were back", time.Since(mended).Round(time.Millisecond))
	c.reached(t)
}

// servicesCaughtUp: the pods behind the Service have all been replaced while the machines were away, so that what their
// proxies knew leads nowhere.
func (c *trio) servicesCaughtUp(t *testing.T, since time.Time, machines ...*machine) {
	t.Helper()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, m := range machines {
		eventually(t, "the Service at "+m.spec.Node+" is the present one", func() error {
			for range 20 { // whichever pod is chosen
				if err := get(client, m.service()); err != nil {
					return err
				}
			}
			return nil
		})
		took := time.Since(since).Round(time.Millisecond)
		t.Logf("the Service at %s was the present one %v after it was back", m.spec.Node, took)
		if took > 15*time.Second {
			t.Errorf("the Service at %s lagged by %v", m.spec.Node, took)
		}
	}
}

// upgraded: each machine in its turn is ended in an orderly way and started again with the next version of the program,
// while clients that fail over write and read. The application answers meanwhile through the others.
func (c *trio) upgraded(t *testing.T) {
	next := nextVersion(t, c.dir)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	var asked atomic.Int64
	for i := range c.members {
		order := append(slices.Clone(c.members[i:]), c.members[:i]...)
		client, err := kubernetes.NewForConfig(failover(t, order))
		if err != nil {
			t.Fatal(err)
		}
		writing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				name := fmt.Sprintf("upgrade-%d-%d", i, n)
				_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				if err == nil {
					_, err = client.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
				}
				cancel()
				if err != nil {
					t.Errorf("a client that begins at %s: %v", order[0].spec.Node, err)
				}
				asked.Add(2)
			}
		})
	}
	for _, m := range c.all {
		_, others := c.others(m)
		l := startLoad(targetsOf(others), 10)
		begun := time.Now()
		m.stop(t)
		stopped := time.Since(begun)
		m.program = next
		m.start(t)
		m.waitReady(t)
		t.Logf("%s was stopped in %v and ready again in %v", m.spec.Node, stopped.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
		l.end(t, func(string) bool { return false })
	}
	close(stop)
	writing.Wait()
	t.Logf("%d requests to the API", asked.Load())
	c.linked(t, c.all...)
}

func podReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil
		}
	}
	return false
}
