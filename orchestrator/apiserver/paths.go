package apiserver

import (
	"fmt"
	"net/http"
	goruntime "runtime"
	"sort"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
)

// servePath serves everything that is no resource.
func (s *Server) servePath(w http.ResponseWriter, r *http.Request) error {
	if strings.HasPrefix(r.URL.Path, "/openapi/") {
		s.cfg.OpenAPI.ServeHTTP(w, r)
		return nil
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod()
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	for _, check := range []string{"/healthz", "/livez", "/readyz"} {
		if rest, ok := strings.CutPrefix(path, check); ok && (rest == "" || rest[0] == '/') {
			return s.serveHealth(w, r, check[1:], strings.TrimPrefix(rest, "/"))
		}
	}
	switch path {
	case "":
		return writeRaw(w, r, http.StatusOK, mediaJSON, mustJSON(map[string]any{"paths": s.paths()}))
	case "/version":
		return writeRaw(w, r, http.StatusOK, mediaJSON, mustJSON(s.version()))
	case "/.well-known/openid-configuration", "/openid/v1/jwks":
		return s.serveIssuer(w, r, path)
	}
	if path == "/api" || path == "/apis" || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/apis/") {
		return s.serveDiscovery(w, r, path)
	}
	return errNoSuchPath()
}

func (s *Server) version() version.Info {
	major, minor, _ := strings.Cut(strings.TrimPrefix(s.cfg.Version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	return version.Info{
		Major: major, Minor: minor, GitVersion: s.cfg.Version, GoVersion: goruntime.Version(), Compiler: goruntime.Compiler,
		Platform: goruntime.GOOS + "/" + goruntime.GOARCH,
	}
}

func (s *Server) paths() []string {
	paths := []string{"/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"}
	for _, g := range s.groups.list.Groups {
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	sort.Strings(paths)
	return paths
}

// serveHealth answers probes. readyz alone needs the registry: a server that still reads its data
// is alive.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request, endpoint, only string) error {
	checks := []HealthCheck{{Name: "ping"}, {Name: "log"}}
	registryCheck, stopCheck := HealthCheck{Name: "registry"}, HealthCheck{Name: "shutdown"}
	select {
	case <-s.registry.Ready():
	default:
		registryCheck.Problem = "not ready: still reading the stored objects"
	}
	select {
	case <-s.stopping:
		stopCheck.Problem = "the server is stopping"
	default:
	}
	if endpoint != "livez" {
		checks = append(checks, registryCheck)
		if s.cfg.Health != nil {
			checks = append(checks, s.cfg.Health()...)
		}
	}
	if endpoint == "readyz" {
		checks = append(checks, stopCheck)
	}
	if only != "" {
		var found []HealthCheck
		for _, c := range checks {
			if c.Name == only {
				found = append(found, c)
			}
		}
		if found == nil {
			return errNoSuchPath()
		}
		checks = found
	}
	var text strings.Builder
	ok := true
	for _, c := range checks {
		if c.Problem == "" {
			fmt.Fprintf(&text, "[+]%s ok\n", c.Name)
			continue
		}
		ok = false
		fmt.Fprintf(&text, "[-]%s failed: %s\n", c.Name, c.Problem)
	}
	code, body := http.StatusOK, "ok"
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case !ok:
		code, body = http.StatusInternalServerError, text.String()+endpoint+" check failed\n"
	case verbose:
		body = text.String() + endpoint + " check passed\n"
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	return writeRaw(w, r, code, "text/plain; charset=utf-8", []byte(body))
}

// serveIssuer lets others check the tokens that are issued here.
func (s *Server) serveIssuer(w http.ResponseWriter, r *http.Request, path string) error {
	if s.cfg.Issuer == nil {
		return errNoSuchPath()
	}
	var raw []byte
	var err error
	contentType := mediaJSON
	if path == "/openid/v1/jwks" {
		contentType = "application/jwk-set+json"
		raw, err = s.cfg.Issuer.JWKS()
	} else {
		raw, err = s.cfg.Issuer.Discovery("https://" + r.Host + "/openid/v1/jwks")
	}
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	return writeRaw(w, r, http.StatusOK, contentType, raw)
}
