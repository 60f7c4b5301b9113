package orchestratortest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/orchestrator"
)

func TestMain(m *testing.M) {
	// klog, which client-go links, has a flush goroutine for as long as the process lives.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

func eventually(t *testing.T, what string, check func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(context.Background(), 5*time.Millisecond, 20*time.Second, true, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestADeploymentBecomesPodsThatAreBound(t *testing.T) {
	c := Start(t)
	c.AddNode(t, "one")
	ctx := context.Background()
	replicas := int32(3)
	labels := map[string]string{"app": "web"}
	_, err := c.Client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:v1"}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "3 pods bound to the node", func(ctx context.Context) (bool, error) {
		pods, err := c.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=one"})
		return err == nil && len(pods.Items) == 3, err
	})
	if err := c.Client.AppsV1().Deployments("default").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pods that are to end", func(ctx context.Context) (bool, error) {
		pods, err := c.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for i := range pods.Items {
			if pods.Items[i].DeletionTimestamp == nil {
				return false, nil
			}
		}
		return true, nil
	})
}

func TestTwoClustersShareNothing(t *testing.T) {
	a, b := Start(t), Start(t)
	ctx := context.Background()
	if _, err := a.Client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Client.CoreV1().ConfigMaps("default").Get(ctx, "x", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the other cluster answers %v", err)
	}
}

func TestStateSurvivesAStopAndAStart(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	t.Run("first", func(t *testing.T) {
		c := Start(t, func(cfg *orchestrator.Config) { cfg.DataDir = dir })
		if _, err := c.Client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("second", func(t *testing.T) {
		c := Start(t, func(cfg *orchestrator.Config) { cfg.DataDir = dir })
		if _, err := c.Client.CoreV1().ConfigMaps("default").Get(ctx, "x", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheKubeconfigWorksOverTLS(t *testing.T) {
	c := Start(t, func(cfg *orchestrator.Config) { cfg.Address = "127.0.0.1:0" })
	data, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(context.Background(), "kube-system", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestAServiceAccountWithoutBindingsIsRefused(t *testing.T) {
	c := Start(t)
	client, err := kubernetes.NewForConfig(c.RESTConfigAs("system:serviceaccount:default:default", "system:serviceaccounts"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{})
	want := `pods is forbidden: User "system:serviceaccount:default:default" cannot list resource "pods" in API group "" in the namespace "default"`
	if !apierrors.IsForbidden(err) || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}
