package appliance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/appliance"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

// asHost makes this test binary a program that embeds an orchestrator and an appliance, working in the
// folder that it names. What it finds about its globals goes into the file "report" there.
const asHost = "PINTLE_TEST_AS_HOST"

// A process has one standard output, one set of flags, one default registry: they are the host program's,
// and stay as the imports alone leave them, through trouble, a restart and a stop. The signals that end
// a program end it still.
func TestTheHostsGlobalsAndOutputsAreLeftAlone(t *testing.T) {
	archive, err := wasmtest.ServerArchive(t.Context(), "example.com/server:1", "VERSION=v1")
	if err != nil {
		t.Fatal(err)
	}
	// A signal that whoever started us ignores (nohup does) would be ignored by the host too; one that is caught is not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir()
			if sig == syscall.SIGTERM { // once is enough for the long way
				if err := os.WriteFile(filepath.Join(dir, "server.tar"), archive, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), asHost+"="+dir)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			var problems []string
			hangs := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) }) // and says where
			defer hangs.Stop()
			for report := []byte(nil); report == nil; {
				select {
				case err := <-ended:
					t.Fatalf("the host ended by itself: %v\nstdout: %s\nstderr: %s", err, stdout.String(), stderr.String())
				case <-time.After(20 * time.Millisecond):
				}
				if report, err = os.ReadFile(filepath.Join(dir, "report")); err == nil {
					if err := json.Unmarshal(report, &problems); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			err := <-ended
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != sig {
				t.Errorf("%v ended the host with %v: somebody handles it", sig, err)
			}
			for _, p := range problems {
				t.Error(p)
			}
			if stdout.Len() > 0 || stderr.Len() > 0 {
				t.Errorf("the host's stdout: %q, stderr:\n%s", stdout.String(), stderr.String())
			}
		})
	}
}

// runHost is the program: it works, reports, and then runs on until a signal ends it.
func runHost(dir string) error {
	before, err := globals()
	if err != nil {
		return err
	}
	problems := []string{}
	for _, name := range slices.Sorted(maps.Keys(importsAlone)) {
		if before[name] != importsAlone[name] {
			problems = append(problems, fmt.Sprintf("importing the appliance alone makes %s %q; the list says %q", name, before[name], importsAlone[name]))
		}
	}
	compare := func(when string) error {
		now, err := globals()
		for _, name := range slices.Sorted(maps.Keys(now)) {
			if now[name] != before[name] {
				problems = append(problems, fmt.Sprintf("%s, %s is %q and was %q", when, name, now[name], before[name]))
			}
		}
		return err
	}
	if archive, err := os.ReadFile(filepath.Join(dir, "server.tar")); err == nil {
		if err := exercise(dir, archive, func() error { return compare("while they run") }); err != nil {
			problems = append(problems, "the exercise failed: "+err.Error())
		}
		if err := compare("after the stop"); err != nil {
			return err
		}
	}
	a, err := appliance.New(hostConfig(dir))
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(context.Background()) }()
	<-a.Ready()
	if err := compare("after the second start"); err != nil {
		return err
	}
	report, err := json.Marshal(problems)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.new"), report, 0o600); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, "report.new"), filepath.Join(dir, "report")); err != nil {
		return err
	}
	return fmt.Errorf("the appliance ended by itself: %w", <-ended)
}

func hostConfig(dir string) appliance.Config {
	return appliance.Config{Name: "hosted", Node: "here", DataDir: filepath.Join(dir, "appliance"), Engine: appliance.Wasm, Address: "127.0.0.1:0"}
}

// exercise runs an orchestrator and an appliance, gives both work and trouble, and stops them.
func exercise(dir string, archive []byte, check func() error) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	o, err := orchestrator.New(orchestrator.Config{Name: "alone", DataDir: filepath.Join(dir, "orchestrator"), Address: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	a, err := appliance.New(hostConfig(dir))
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- o.Run(ctx) }()
	go func() { ended <- a.Run(ctx) }()
	defer func() { stop(); <-ended; <-ended }()
	for _, ready := range []<-chan struct{}{o.Ready(), a.Ready()} {
		select {
		case <-ready:
		case err := <-ended:
			ended <- err
			return err
		}
	}
	if err := work(ctx, a, archive); err != nil {
		return err
	}
	for _, address := range []string{o.Addr().String(), apiAddress(a), a.HTTPAddress(), a.HTTPSAddress()} {
		if err := garbage(address); err != nil {
			return err
		}
	}
	for _, cfg := range []func() (*kubernetes.Clientset, error){
		func() (*kubernetes.Clientset, error) { return kubernetes.NewForConfig(o.RESTConfig()) },
		func() (*kubernetes.Clientset, error) { return kubernetes.NewForConfig(a.RESTConfig()) },
	} {
		client, err := cfg()
		if err != nil {
			return err
		}
		if err := malformed(ctx, client); err != nil {
			return err
		}
	}
	restart, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err := a.RestartControlPlane(restart); err != nil {
		return err
	}
	if err := a.ImportImages(ctx, strings.NewReader("this is no archive")); err == nil {
		return errors.New("an archive that is none was imported")
	}
	// The agent, the proxy and their informers find the new control plane in this time.
	time.Sleep(2 * time.Second)
	if err := check(); err != nil {
		return err
	}
	stop()
	err = errors.Join(<-ended, <-ended, a.Teardown(context.Background()))
	ended <- nil
	ended <- nil
	return err
}

// work has pods, one of which crashes, a Service and an Ingress.
func work(ctx context.Context, a *appliance.Appliance, archive []byte) error {
	if err := a.ImportImages(ctx, bytes.NewReader(archive)); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(a.RESTConfig())
	if err != nil {
		return err
	}
	labels := map[string]string{"app": "web"}
	container := corev1.Container{Name: "server", Image: "example.com/server:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}
	replicas := int32(2)
	_, err = client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{container}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	service, err := client.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}}
	class := "pintle"
	if _, err = client.NetworkingV1().Ingresses("default").Create(ctx, &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: networkingv1.IngressSpec{IngressClassName: &class, DefaultBackend: &backend}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	container.Args = []string{"exit", "3"}
	if _, err := client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "crash"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{container}}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	for what, url := range map[string]func() string{
		"the Service": func() string { return "http://" + a.StandIn(net.JoinHostPort(service.Spec.ClusterIP, "80")) },
		"the Ingress": func() string { return "http://" + a.HTTPAddress() },
	} {
		if err := eventually(what+" answers", func() error {
			response, err := (&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get(url())
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || !strings.HasPrefix(string(body), "v1 web-") {
				return fmt.Errorf("%s %q %v", response.Status, body, err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return eventually("a crash", func() error {
		pod, err := client.CoreV1().Pods("default").Get(ctx, "crash", metav1.GetOptions{})
		if err == nil && (len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].RestartCount == 0) {
			err = fmt.Errorf("the pod's status is %+v", pod.Status)
		}
		return err
	})
}

// malformed sends what the server refuses and what it warns about.
func malformed(ctx context.Context, client *kubernetes.Clientset) error {
	post := func(body string) error {
		return client.CoreV1().RESTClient().Post().Namespace("default").Resource("configmaps").
			SetHeader("Content-Type", "application/json").Param("fieldValidation", "Warn").Body([]byte(body)).Do(ctx).Error()
	}
	for _, body := range []string{`{`, `[]`, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"Not A Name"}}`} {
		if post(body) == nil {
			return fmt.Errorf("%s was accepted", body)
		}
	}
	return post(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"warned"},"colour":"unknown"}`)
}

// garbage is what a port scanner sends: noise, HTTP without TLS, a handshake that breaks off, noise
// inside TLS.
func garbage(address string) error {
	for _, send := range []string{"\x00\x01\x02\xff\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, send); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = conn.Read(make([]byte, 512))
		conn.Close()
		secure, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			continue // a port without TLS
		}
		_, _ = io.WriteString(secure, send)
		_ = secure.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = secure.Read(make([]byte, 512))
		secure.Close()
	}
	return nil
}
