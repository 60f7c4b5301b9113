package runtime

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
)

// environment resolves a container's variables: service links, then envFrom, then env, the later wins.
func (w *worker) environment(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]string, error) {
	vars := map[string]string{}
	links, err := w.a.serviceLinks(ctx, pod)
	if err != nil {
		return nil, err
	}
	maps.Copy(vars, links)
	for _, f := range c.EnvFrom {
		var data map[string]string
		switch {
		case f.ConfigMapRef != nil:
			cm, err := w.a.objects.configMap(ctx, pod.Namespace, f.ConfigMapRef.Name)
			if err != nil {
				if apierrors.IsNotFound(err) && optional(f.ConfigMapRef.Optional) {
					continue
				}
				return nil, err
			}
			data = cm.Data
		case f.SecretRef != nil:
			s, err := w.a.objects.secret(ctx, pod.Namespace, f.SecretRef.Name)
			if err != nil {
				if apierrors.IsNotFound(err) && optional(f.SecretRef.Optional) {
					continue
				}
				return nil, err
			}
			data = map[string]string{}
			for k, v := range s.Data {
				data[k] = string(v)
			}
		}
		for k, v := range data {
			if k != "" && !strings.ContainsAny(k, "=\x00") {
				vars[f.Prefix+k] = v
			}
		}
	}
	own := map[string]string{} // what $(NAME) sees: all that stands before
	maps.Copy(own, vars)
	for _, e := range c.Env {
		v := expand(e.Value, own)
		if e.ValueFrom != nil {
			var found bool
			v, found, err = w.valueFrom(ctx, pod, c, e.ValueFrom)
			if err != nil {
				return nil, err
			}
			if !found {
				continue
			}
		}
		own[e.Name], vars[e.Name] = v, v
	}
	if !pod.Spec.HostNetwork {
		if _, ok := vars["HOSTNAME"]; !ok && w.engine.Name() == "wasm" {
			vars["HOSTNAME"] = pod.Name
		}
	}
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out, nil
}

func optional(b *bool) bool { return b != nil && *b }

func (w *worker) valueFrom(ctx context.Context, pod *corev1.Pod, c *corev1.Container, src *corev1.EnvVarSource) (string, bool, error) {
	switch {
	case src.FieldRef != nil:
		v, err := w.field(pod, src.FieldRef.FieldPath)
		return v, true, err
	case src.ResourceFieldRef != nil:
		v, err := w.a.resourceField(pod, c, src.ResourceFieldRef)
		return v, true, err
	case src.ConfigMapKeyRef != nil:
		r := src.ConfigMapKeyRef
		cm, err := w.a.objects.configMap(ctx, pod.Namespace, r.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && optional(r.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		v, ok := cm.Data[r.Key]
		if !ok && !optional(r.Optional) {
			return "", false, fmt.Errorf("couldn't find key %s in ConfigMap %s/%s", r.Key, pod.Namespace, r.Name)
		}
		return v, ok, nil
	case src.SecretKeyRef != nil:
		r := src.SecretKeyRef
		s, err := w.a.objects.secret(ctx, pod.Namespace, r.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && optional(r.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		v, ok := s.Data[r.Key]
		if !ok && !optional(r.Optional) {
			return "", false, fmt.Errorf("couldn't find key %s in Secret %s/%s", r.Key, pod.Namespace, r.Name)
		}
		return string(v), ok, nil
	case src.FileKeyRef != nil:
		return w.fileKey(src.FileKeyRef)
	}
	return "", false, nil
}

// fileKey reads NAME=value lines from a file in a volume, as env files are written.
func (w *worker) fileKey(r *corev1.FileKeySelector) (string, bool, error) {
	path, err := within(w.volumes.path(r.VolumeName), r.Path)
	if err == nil {
		var f *os.File
		if f, err = os.Open(path); err == nil {
			defer f.Close()
			for sc := bufio.NewScanner(f); sc.Scan(); {
				if k, v, ok := strings.Cut(sc.Text(), "="); ok && strings.TrimSpace(k) == r.Key {
					return strings.Trim(strings.TrimSpace(v), `"'`), true, nil
				}
			}
		}
	}
	if optional(r.Optional) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("couldn't read file %s of volume %s: %w", r.Path, r.VolumeName, err)
	}
	return "", false, fmt.Errorf("environment variable key %q not found in file %q", r.Key, r.Path)
}

// field resolves what the downward API offers of a pod.
func (w *worker) field(pod *corev1.Pod, path string) (string, error) {
	if i := strings.Index(path, "['"); i > 0 && strings.HasSuffix(path, "']") {
		key := path[i+2 : len(path)-2]
		switch path[:i] {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		ips := w.a.hostIPs()
		if path == "status.hostIPs" {
			return strings.Join(ips, ","), nil
		}
		if len(ips) > 0 {
			return ips[0], nil
		}
		return "", nil
	case "status.podIP", "status.podIPs":
		var ips []string
		if w.sandbox != nil {
			for _, ip := range w.sandbox.IPs {
				ips = append(ips, ip.String())
			}
		}
		if pod.Spec.HostNetwork {
			ips = w.a.hostIPs()
		}
		if path == "status.podIPs" {
			return strings.Join(ips, ","), nil
		}
		if len(ips) > 0 {
			return ips[0], nil
		}
		return "", nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %s", path)
}

func formatMap(m map[string]string) string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s=%q", k, m[k])
	}
	return b.String()
}

func (a *Agent) resourceField(pod *corev1.Pod, c *corev1.Container, r *corev1.ResourceFieldSelector) (string, error) {
	if r.ContainerName != "" && r.ContainerName != c.Name {
		c = nil
		for _, l := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range l {
				if l[i].Name == r.ContainerName {
					c = &l[i]
				}
			}
		}
		if c == nil {
			return "", fmt.Errorf("container %s not found", r.ContainerName)
		}
	}
	kind, name, _ := strings.Cut(r.Resource, ".")
	n := corev1.ResourceName(name)
	var q resource.Quantity
	var ok bool
	switch kind {
	case "limits":
		if q, ok = c.Resources.Limits[n]; !ok || q.IsZero() {
			q = a.allocatable()[n] // without a limit the node is the limit
		}
	case "requests":
		q = request(c, n)
	default:
		return "", fmt.Errorf("unsupported resource: %s", r.Resource)
	}
	div := r.Divisor
	if div.IsZero() {
		div = resource.MustParse("1")
	}
	if n == corev1.ResourceCPU {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(div.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(div.Value()))), 10), nil
}

// expand replaces $(NAME) by the variable's value; $$ is a dollar, and unknown names stay as they are.
func expand(s string, vars map[string]string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i+2:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+2+end]
			if v, ok := vars[name]; ok {
				b.WriteString(v)
			} else {
				b.WriteString("$(" + name + ")")
			}
			i += 2 + end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

func expandAll(l []string, vars map[string]string) []string {
	if l == nil {
		return nil
	}
	out := make([]string, len(l))
	for i, s := range l {
		out[i] = expand(s, vars)
	}
	return out
}

// serviceLinks are the Docker-style variables of the namespace's Services, and always those of
// default/kubernetes, which InClusterConfig reads.
func (a *Agent) serviceLinks(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	select {
	case <-a.svcs.First():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(2 * time.Second):
		return nil, fmt.Errorf("services have not yet been read at least once, cannot construct envvars")
	}
	all := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	out := map[string]string{}
	add := func(s *corev1.Service) {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			return
		}
		ip := s.Spec.ClusterIP
		host := ip
		if strings.Contains(ip, ":") {
			host = "[" + ip + "]"
		}
		name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
		out[name+"_SERVICE_HOST"] = ip
		for i, p := range s.Spec.Ports {
			port, proto := strconv.Itoa(int(p.Port)), strings.ToLower(string(protocol(p.Protocol)))
			url := proto + "://" + host + ":" + port
			if i == 0 {
				out[name+"_SERVICE_PORT"], out[name+"_PORT"] = port, url
			}
			if p.Name != "" {
				out[name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))] = port
			}
			prefix := name + "_PORT_" + port + "_" + strings.ToUpper(proto)
			out[prefix], out[prefix+"_PROTO"], out[prefix+"_PORT"], out[prefix+"_ADDR"] = url, proto, port, ip
		}
	}
	var master *corev1.Service
	for _, s := range a.svcs.Snapshot() {
		if s.Namespace == "default" && s.Name == "kubernetes" {
			master = s
		}
		if all && s.Namespace == pod.Namespace {
			add(s)
		}
	}
	if _, ok := out["KUBERNETES_SERVICE_HOST"]; !ok && master != nil {
		add(master)
	}
	return out, nil
}

// within joins a path below a folder and refuses to leave it, through symbolic links too.
func within(dir, sub string) (string, error) {
	if !filepath.IsLocal(sub) {
		return "", fmt.Errorf("path %q leaves its volume", sub)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	p, err := filepath.EvalSymlinks(filepath.Join(dir, sub))
	if err != nil {
		return "", err
	}
	if p != real && !strings.HasPrefix(p, real+string(filepath.Separator)) {
		return "", fmt.Errorf("path %q leaves its volume", sub)
	}
	return p, nil
}
