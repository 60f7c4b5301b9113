package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

// kubelets makes bound pods ready, or crash where their image is called so, and ends those that are deleted, until ctx ends.
func kubelets(ctx context.Context, t *testing.T, c *orchestratortest.Cluster) {
	none, beat := int64(0), time.Now()
	for tick := time.NewTicker(30 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if time.Since(beat) > 10*time.Second { // or the nodes would count as unreachable
			beat = time.Now()
			nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			for i := range nodes.Items {
				n := &nodes.Items[i]
				for j := range n.Status.Conditions {
					n.Status.Conditions[j].LastHeartbeatTime = metav1.Now()
				}
				if _, err = c.Client.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
					t.Logf("heartbeat: %v", err)
				}
			}
		}
		pods, err := c.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		for i := range pods.Items {
			p := &pods.Items[i]
			crashes := strings.Contains(p.Spec.Containers[0].Image, "crash")
			switch {
			case p.Spec.NodeName == "":
			case p.DeletionTimestamp != nil:
				_ = c.Client.CoreV1().Pods("default").Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &none})
			case p.Status.Phase != corev1.PodRunning:
				p.Status.Phase = corev1.PodRunning
				if crashes {
					p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: p.Spec.Containers[0].Name, RestartCount: 3, Image: "crash", ImageID: "x"}}
				} else {
					p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
				}
				_, _ = c.Client.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{}) // a lost race comes again
			}
		}
	}
}

func setManifest(kind, name, more string) string {
	return "apiVersion: apps/v1\nkind: " + kind + "\nmetadata: {name: " + name + ", annotations: {kubernetes.io/change-cause: first}}\nspec:\n  " + more +
		"\n  selector: {matchLabels: {app: " + name + "}}\n  template:\n    metadata: {labels: {app: " + name + "}}\n    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: 'example.com/x:v1'}]}\n"
}

func TestKubectlRollsStatefulSetsAndDaemonSets(t *testing.T) {
	t.Parallel()
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) { cfg.Address = "127.0.0.1:0" })
	config, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	k := newKubectl(t, config)
	c.AddNode(t, "n1")
	c.AddNode(t, "n2")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		kubelets(ctx, t, c)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	const image = "-o jsonpath={.spec.template.spec.containers[0].image}"
	k.steps([]step{
		with(setManifest("StatefulSet", "web", "replicas: 2\n  serviceName: web"), does("apply -f -", "statefulset.apps/web created")),
		with(setManifest("DaemonSet", "logs", "minReadySeconds: 0"), does("apply -f -", "daemonset.apps/logs created")),
		does("rollout status sts/web --timeout=30s", "partitioned roll out complete: 2 new pods have been updated"),
		does("rollout status ds/logs --timeout=30s", `daemon set "logs" successfully rolled out`),
		does("get sts web", "NAME   READY   AGE", "web    2/2"),
		does("get ds logs", "NAME   DESIRED   CURRENT   READY   UP-TO-DATE   AVAILABLE   NODE SELECTOR   AGE", "logs   2         2         2       2            2           <none>"),
		does("get pods -l app=web -o jsonpath={.items[*].spec.hostname}", "web-0 web-1"),
		does("get controllerrevisions", "statefulset.apps/web", "daemonset.apps/logs"),
		does("get all", "statefulset.apps/web", "daemonset.apps/logs"),
		does("set image sts/web c=example.com/x:v2", "image updated"),
		does("set image ds/logs c=example.com/x:v2", "image updated"),
		does("wait --for=jsonpath={.status.updatedReplicas}=2 sts/web --timeout=30s"),
		does("rollout status sts/web --timeout=30s", "complete"),
		does("rollout status ds/logs --timeout=30s", "successfully rolled out"),
		does("rollout history sts/web", "REVISION  CHANGE-CAUSE", "1         first", "2         first"),
		does("rollout history ds/logs --revision=1", "Image:\texample.com/x:v1"),
		does("rollout undo sts/web", "statefulset.apps/web rolled back"),
		does("rollout undo ds/logs --to-revision=1", "daemonset.apps/logs rolled back"),
		does("get sts web "+image, "example.com/x:v1"),
		does("rollout status sts/web --timeout=30s", "complete"),
		does("rollout status ds/logs --timeout=30s", "successfully rolled out"),
		does("rollout history ds/logs", "2         first", "3         first"),
		refuses("rollout undo sts/web --to-revision=99", "unable to find specified revision 99 in history"),
		does("rollout restart sts/web ds/logs", "statefulset.apps/web restarted", "daemonset.apps/logs restarted"),
		does("rollout status sts/web --timeout=30s", "complete"),
		does("rollout status ds/logs --timeout=30s", "successfully rolled out"),
		does("scale sts web --replicas=3", "statefulset.apps/web scaled"),
		does("wait --for=jsonpath={.status.availableReplicas}=3 sts/web --timeout=30s"),
		does("get sts web --subresource=scale", "DESIRED", "AVAILABLE"),
		refuses("patch sts web -p '{\"spec\":{\"serviceName\":\"other\"}}'", "updates to statefulset spec for fields other than"),
		// An update that crashes comes back by itself, and says so.
		does("set image sts/web c=example.com/crash:v3", "image updated"),
		does("set image ds/logs c=example.com/crash:v3", "image updated"),
		does("wait --for=condition=RolledBack sts/web ds/logs --timeout=30s", "condition met"),
		does("rollout status ds/logs --timeout=30s", "successfully rolled out"),
		does("rollout status sts/web --timeout=30s", "complete"),
		does("get sts web "+image, "example.com/x:v1"),
		does("get ds logs "+image, "example.com/x:v1"),
		does("wait --for=create event --field-selector reason=StatefulSetRolledBack --timeout=10s"),
		does("describe sts web", "create Pod web-0 in StatefulSet web successful", "StatefulSetRolledBack"),
		does("describe ds logs", "Created pod: logs-", "DaemonSetRolledBack"),
		// A node is drained but for its daemons, which stay.
		refuses("drain n1 --timeout=1s", "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/logs-"),
		does("drain n1 --ignore-daemonsets --timeout=30s", "node/n1 drained"),
		does("wait --for=jsonpath={.status.availableReplicas}=3 sts/web --timeout=30s"),
		does("get ds logs", "logs   2         2         2"),
		does("get pods -l app=logs -o jsonpath={.items[*].spec.nodeName}", "n1"),
		does("uncordon n1", "uncordoned"),
		// A daemon finds room on a full node.
		does("create priorityclass high --value=1000", "created"),
		with(strings.Replace(setManifest("StatefulSet", "big", "replicas: 2\n  podManagementPolicy: Parallel"), "image: 'example.com/x:v1'", "image: 'example.com/x:v1', resources: {requests: {cpu: 15}}", 1),
			does("apply -f -", "created")),
		does("rollout status sts/big --timeout=30s", "complete"),
		with(strings.NewReplacer("image: 'example.com/x:v1'", "image: 'example.com/x:v1', resources: {requests: {cpu: 4}}", "spec: {term", "spec: {priorityClassName: high, term").Replace(
			setManifest("DaemonSet", "agent", "minReadySeconds: 0")), does("apply -f -", "created")),
		does("rollout status ds/agent --timeout=30s", "successfully rolled out"),
		does("wait --for=jsonpath={.status.availableReplicas}=0 sts/big --timeout=10s"), // 4 + 15 CPUs are more than 16
		does("delete sts web --cascade=orphan", "deleted"),
		does("get pods -l app=web -o name", "pod/web-0", "pod/web-1", "pod/web-2"),
		does("delete ds logs agent", "deleted"),
		does("wait --for=delete pod -l app=logs --timeout=30s"),
	})
}
