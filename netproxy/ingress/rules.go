package ingress

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"sort"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pintle/pintle/netproxy/services"
)

// backendKey names a Service's port, by name or by number.
type backendKey struct {
	services.Key
	port string
	num  uint16
}

// route is one path of one host. Immutable.
type route struct {
	ingress services.Key
	host    string
	path    string
	kind    networkingv1.PathType
	regex   *regexp.Regexp
	opts    Options
	tls     bool
	backend *upstream
	canary  *route
}

// table routes requests. Immutable.
type table struct {
	exact, wild map[string][]*route // wild by ".example.org"
	any         []*route
	fallback    *route
}

// problem is something about an Ingress that its owner should hear of.
type problem struct {
	ingress services.Key
	message string
}

// compile makes the table. resolve returns the upstream of a backend. Older Ingresses win where
// two claim one host and path.
func compile(list []*networkingv1.Ingress, resolve func(backendKey, Options) *upstream) (*table, []problem) {
	list = append([]*networkingv1.Ingress(nil), list...)
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
			return a.CreationTimestamp.Before(&b.CreationTimestamp)
		}
		return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
	})
	t := &table{exact: map[string][]*route{}, wild: map[string][]*route{}}
	var problems []problem
	var canaries []*route
	seen := map[string]*route{}
	id := func(r *route) string { return r.host + " " + string(r.kind) + " " + r.path }
	for _, ing := range list {
		key := services.Key{Namespace: ing.Namespace, Name: ing.Name}
		complain := func(f string, a ...any) { problems = append(problems, problem{key, fmt.Sprintf(f, a...)}) }
		opts, bad := parseOptions(ing.Annotations)
		for _, b := range bad {
			complain("%s", b)
		}
		tlsHosts := map[string]bool{}
		for _, x := range ing.Spec.TLS {
			for _, h := range x.Hosts {
				tlsHosts[strings.ToLower(h)] = true
			}
			if len(x.Hosts) == 0 {
				tlsHosts[""] = true
			}
		}
		backend := func(b *networkingv1.IngressBackend, where string) *upstream {
			if b == nil {
				return nil
			}
			if b.Service == nil {
				complain("%s: only service backends are supported", where)
				return nil
			}
			return resolve(backendKey{services.Key{Namespace: ing.Namespace, Name: b.Service.Name}, b.Service.Port.Name, uint16(b.Service.Port.Number)}, opts)
		}
		add := func(r *route) {
			switch {
			case opts.Canary:
				canaries = append(canaries, r)
			case seen[id(r)] != nil:
				complain("host %q path %q is already served by Ingress %s", r.host, r.path, seen[id(r)].ingress)
			default:
				seen[id(r)] = r
				t.insert(r)
			}
		}
		if u := backend(ing.Spec.DefaultBackend, "spec.defaultBackend"); u != nil && !opts.Canary {
			r := &route{ingress: key, path: "/", kind: networkingv1.PathTypePrefix, opts: opts, backend: u, tls: tlsHosts[""]}
			if len(ing.Spec.Rules) == 0 || t.fallback == nil {
				if t.fallback == nil {
					t.fallback = r
				} else {
					complain("spec.defaultBackend: Ingress %s is the default already", t.fallback.ingress)
				}
			}
		}
		for _, rule := range ing.Spec.Rules {
			host := strings.ToLower(rule.Host)
			if rule.HTTP == nil {
				continue
			}
			for i := range rule.HTTP.Paths {
				p := &rule.HTTP.Paths[i]
				r := &route{ingress: key, host: host, path: p.Path, kind: networkingv1.PathTypeImplementationSpecific, opts: opts, tls: tlsHosts[host] || tlsHosts[""] || tlsHosts["*"+afterLabel(host)]}
				if p.PathType != nil {
					r.kind = *p.PathType
				}
				if r.path == "" {
					r.path = "/"
				}
				if (opts.UseRegex || strings.Contains(opts.RewriteTarget, "$")) && r.kind != networkingv1.PathTypeExact {
					re, err := regexp.Compile("(?i)^" + r.path)
					if err != nil {
						complain("host %q path %q: %v", host, r.path, err)
						continue
					}
					r.regex = re
				}
				if r.backend = backend(&p.Backend, fmt.Sprintf("host %q path %q", host, r.path)); r.backend == nil {
					continue
				}
				add(r)
			}
		}
	}
	for _, c := range canaries {
		main := seen[id(c)]
		switch {
		case main == nil:
			problems = append(problems, problem{c.ingress, fmt.Sprintf("canary for host %q path %q has no main Ingress", c.host, c.path)})
		case main.canary != nil:
			problems = append(problems, problem{c.ingress, fmt.Sprintf("host %q path %q has a canary already", c.host, c.path)})
		default:
			main.canary = c
		}
	}
	for _, m := range []map[string][]*route{t.exact, t.wild} {
		for _, rs := range m {
			precedence(rs)
		}
	}
	precedence(t.any)
	return t, problems
}

// afterLabel returns ".example.org" for "www.example.org".
func afterLabel(host string) string {
	if i := strings.IndexByte(host, '.'); i > 0 {
		return host[i:]
	}
	return "\x00"
}

func (t *table) insert(r *route) {
	switch {
	case r.host == "":
		t.any = append(t.any, r)
	case strings.HasPrefix(r.host, "*."):
		t.wild[r.host[1:]] = append(t.wild[r.host[1:]], r)
	default:
		t.exact[r.host] = append(t.exact[r.host], r)
	}
}

// precedence: the longest path first, and Exact before Prefix of the same length.
func precedence(rs []*route) {
	sort.SliceStable(rs, func(i, j int) bool {
		a, b := rs[i], rs[j]
		ae, be := a.kind == networkingv1.PathTypeExact, b.kind == networkingv1.PathTypeExact
		if ae != be {
			return ae // an Exact path either matches fully, so it is the longest, or not at all
		}
		return len(a.path) > len(b.path)
	})
}

// match returns the route of a request, or nil. host is lower case without a port.
func (t *table) match(host, path string) *route {
	if r := first(t.exact[host], path); r != nil {
		return r
	}
	if r := first(t.wild[afterLabel(host)], path); r != nil {
		return r
	}
	if r := first(t.any, path); r != nil {
		return r
	}
	return t.fallback
}

func first(rs []*route, path string) *route {
	for _, r := range rs {
		if r.matches(path) {
			return r
		}
	}
	return nil
}

func (r *route) matches(path string) bool {
	switch {
	case r.regex != nil:
		return r.regex.MatchString(path)
	case r.kind == networkingv1.PathTypeExact:
		return path == r.path
	}
	p := strings.TrimSuffix(r.path, "/")
	return len(path) >= len(p) && path[:len(p)] == p && (len(path) == len(p) || path[len(p)] == '/')
}

// choose applies the canary: its header decides, else its cookie, else its weight.
func (r *route) choose(header, cookie func(string) string) *route {
	c := r.canary
	if c == nil {
		return r
	}
	o := &c.opts
	if o.CanaryHeader != "" {
		v := header(o.CanaryHeader)
		switch {
		case o.CanaryValue != "":
			if v == o.CanaryValue {
				return c
			}
		case o.CanaryPattern != nil:
			if v != "" && o.CanaryPattern.MatchString(v) {
				return c
			}
		case v == "always":
			return c
		case v == "never":
			return r
		}
	}
	if o.CanaryCookie != "" {
		switch cookie(o.CanaryCookie) {
		case "always":
			return c
		case "never":
			return r
		}
	}
	if o.CanaryWeight > 0 && rand.IntN(o.CanaryTotal) < o.CanaryWeight {
		return c
	}
	return r
}

// expandTarget writes $1 as ${1}, which regexp wants.
func expandTarget(target string) string {
	var b strings.Builder
	for i := 0; i < len(target); i++ {
		if target[i] == '$' && i+1 < len(target) && target[i+1] >= '0' && target[i+1] <= '9' {
			b.WriteString("${" + target[i+1:i+2] + "}")
			i++
			continue
		}
		b.WriteByte(target[i])
	}
	return b.String()
}

// rewrite returns the path to send, and whether it differs.
func (r *route) rewrite(path string) (string, bool) {
	if r.opts.RewriteTarget == "" {
		return path, false
	}
	if r.regex == nil {
		return r.opts.RewriteTarget, true
	}
	m := r.regex.FindStringSubmatchIndex(path)
	if m == nil {
		return path, false
	}
	out := string(r.regex.ExpandString(nil, expandTarget(r.opts.RewriteTarget), path, m))
	if !strings.HasPrefix(out, "/") {
		out = "/" + out
	}
	return out, true
}
