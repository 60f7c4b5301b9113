package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const podsAtOnce = 50

// podsMeasurement starts one appliance and measures on it, in this order: its idle memory, 50 pods
// created at once until each is Ready, and the time from a container's death until its replacement
// answers. Beside the pods stand 50 bare containers, by the benchmark of runtime/containerd.
func podsMeasurement() measurement {
	const memory = "idle RSS, whole appliance"
	const p50, p99 = "50 pods at once, create to Ready, p50", "50 pods at once, create to Ready, p99"
	const death = "container's death to its replacement serving"
	m := measurement{table: "main", rows: []string{memory, p50, p99, death}}
	m.run = func(ctx context.Context, w *workshop) (rows []Row, err error) {
		p, client, err := startAppliance(ctx, w)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		add := func(r Row, err error) {
			if err != nil {
				r.Note = "not measured: " + err.Error()
			}
			rows = append(rows, r)
		}
		mib, note, err := applianceRSS(ctx, p)
		add(Row{Row: memory, Unit: "MiB", Pintle: mib, Note: note}, err)

		took, err := fiftyPods(ctx, client)
		// The bare containers come after the appliance's pods and not beside them: 100 at once on this
		// machine would measure only each other.
		bare, peer, bareErr := map[string]float64{}, "bare containerd create, CNI add, start", error(nil)
		if err == nil {
			if bare, bareErr = bareContainers(ctx, servedArchive(w)); bareErr != nil {
				peer += " can't run here: " + bareErr.Error()
			}
		}
		for _, q := range []struct {
			row, key string
			q        float64
		}{{p50, "bare-p50-ms", 0.5}, {p99, "bare-p99-ms", 0.99}} {
			r := Row{Row: q.row, Unit: "ms", PeerName: peer, ratioBelow: 1.5}
			if err == nil {
				r.Pintle = number(milliseconds(quantile(took, q.q)))
			}
			if v, ok := bare[q.key]; ok {
				r.Peer, r.Note = number(v), "the peer starts the same image after Pintle's pods, on a containerd of its own; nothing waits until it serves"
			}
			add(r, err)
		}
		died, err := deaths(ctx, p, client)
		r := Row{Row: death, Unit: "ms", below: 1000}
		if err == nil {
			r.Pintle = number(milliseconds(median(died)))
		}
		add(r, err)
		return rows, nil
	}
	return m
}

// applianceRSS is the appliance's process and its containerd's.
func applianceRSS(ctx context.Context, p *process) (*float64, string, error) {
	own, err := p.idleRSS(ctx, 10*time.Second)
	if err != nil {
		return nil, "", err
	}
	sum, parts := own, fmt.Sprintf("own process %s", plain(own))
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, "", err
	}
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		_, after, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(after) // state, parent, ...
		if len(fields) < 2 || fields[1] != strconv.Itoa(p.cmd.Process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		child, err := rssOf(pid)
		if err != nil {
			continue
		}
		sum += child
		parts += ", child " + plain(child)
	}
	return &sum, parts, nil
}

func servedPod(name string) *corev1.Pod {
	grace := int64(0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": "bench"}},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{
			Name: "served", Image: servedImage, ImagePullPolicy: corev1.PullNever,
		}}},
	}
}

// createPods creates the pods all at once and returns how long after the first call each was seen Ready.
func createPods(ctx context.Context, client kubernetes.Interface, prefix string, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, fmt.Errorf("%d pods: not all are Ready after 90 s", n))
	defer cancel()
	pods := client.CoreV1().Pods("default")
	watch, err := pods.Watch(ctx, metav1.ListOptions{LabelSelector: "app=bench"})
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	defer watch.Stop()
	begin := time.Now()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, errs[i] = pods.Create(ctx, servedPod(fmt.Sprintf("%s-%d", prefix, i)), metav1.CreateOptions{})
		})
	}
	defer wg.Wait()
	ready := map[string]time.Duration{}
	for len(ready) < n {
		select {
		case event, ok := <-watch.ResultChan():
			if !ok {
				return nil, errors.New("watch pods: it ended")
			}
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || !strings.HasPrefix(pod.Name, prefix+"-") {
				continue
			}
			for _, c := range pod.Status.Conditions {
				if _, seen := ready[pod.Name]; !seen && c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					ready[pod.Name] = time.Since(begin)
				}
			}
		case <-ctx.Done():
			wg.Wait()
			return nil, errors.Join(fmt.Errorf("%w (%d are)", context.Cause(ctx), len(ready)), errors.Join(errs...))
		}
	}
	var took []time.Duration
	for _, d := range ready {
		took = append(took, d)
	}
	return took, nil
}

// deletePods deletes all measured pods and waits until they are gone.
func deletePods(ctx context.Context, client kubernetes.Interface) error {
	pods := client.CoreV1().Pods("default")
	err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=bench"})
	for range 600 {
		if err != nil {
			break
		}
		list, listErr := pods.List(ctx, metav1.ListOptions{LabelSelector: "app=bench"})
		if listErr == nil && len(list.Items) == 0 {
			return nil
		}
		err = listErr
		time.Sleep(50 * time.Millisecond)
	}
	return errors.Join(err, errors.New("delete pods: some remain"))
}

func fiftyPods(ctx context.Context, client kubernetes.Interface) ([]time.Duration, error) {
	if _, err := createPods(ctx, client, "warm", 1); err != nil { // unpacks the image
		return nil, err
	}
	took, err := createPods(ctx, client, "many", podsAtOnce)
	return took, errors.Join(err, deletePods(ctx, client))
}

// bareContainers runs the benchmark of runtime/containerd once, on the image of the archive, and returns its metrics by unit.
func bareContainers(ctx context.Context, archive string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkFiftyPodsAtOnce$", "-benchtime=1x", "./runtime/containerd")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "PINTLE_BENCH_IMAGE="+archive)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("benchmark: %w: %s", err, firstLines(string(out), 3))
	}
	values := map[string]float64{}
	for _, m := range regexp.MustCompile(`([0-9.]+) (bare-p\d+-ms)`).FindAllStringSubmatch(string(out), -1) {
		if values[m[2]], err = strconv.ParseFloat(m[1], 64); err != nil {
			return nil, fmt.Errorf("benchmark: %w", err)
		}
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("benchmark printed no figures: %s", firstLines(string(out), 3))
	}
	return values, nil
}

// deaths kills the containers of five pods one after the other and times each until the pod's address
// is answered by a new container.
func deaths(ctx context.Context, p *process, client kubernetes.Interface) ([]time.Duration, error) {
	const pods = 5
	if _, err := createPods(ctx, client, "dies", pods); err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range pods {
		pod, err := client.CoreV1().Pods("default").Get(ctx, fmt.Sprint("dies-", i), metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if len(pod.Status.ContainerStatuses) == 0 {
			return nil, fmt.Errorf("pod %s has no container status", pod.Name)
		}
		url := "http://" + pod.Status.PodIP + ":8080/"
		before, err := instance(ctx, url)
		if err != nil {
			return nil, err
		}
		begin := time.Now()
		if _, err := fmt.Fprintln(p.stdin, "kill", pod.Status.ContainerStatuses[0].ContainerID); err != nil {
			return nil, fmt.Errorf("kill: %w", err)
		}
		for {
			if now, err := instance(ctx, url); err == nil && now != before {
				took = append(took, time.Since(begin))
				break
			}
			if time.Since(begin) > 20*time.Second {
				return nil, fmt.Errorf("pod %s: no replacement within 20 s", pod.Name)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return took, deletePods(ctx, client)
}

// instance asks, on a fresh connection, which container answers.
func instance(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
