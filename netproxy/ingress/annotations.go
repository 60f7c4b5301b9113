package ingress

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Prefixes of the annotations that are read; the first wins.
const (
	OwnPrefix   = "ingress.pintle.dev/"
	NginxPrefix = "nginx.ingress.kubernetes.io/"
)

// Options are an Ingress's annotations.
type Options struct {
	RewriteTarget               string
	UseRegex                    bool
	SSLRedirect, ForceSSL       bool
	Redirect                    string
	RedirectCode                int
	Canary                      bool
	CanaryWeight, CanaryTotal   int
	CanaryHeader, CanaryValue   string
	CanaryPattern               *regexp.Regexp
	CanaryCookie                string
	BackendProtocol             string // HTTP, HTTPS, GRPC, GRPCS
	BodySize                    int64  // bytes; 0 is unlimited, -1 the controller's default
	Connect, ReadIdle, SendIdle time.Duration
}

// parseOptions reads the annotations. What is unknown or malformed is returned as problems, one
// sentence each, and has no effect.
func parseOptions(ann map[string]string) (o Options, problems []string) {
	o = Options{SSLRedirect: true, BackendProtocol: "HTTP", BodySize: -1, CanaryTotal: 100, Connect: 5 * time.Second, ReadIdle: 60 * time.Second, SendIdle: 60 * time.Second, RedirectCode: 302}
	keys := make([]string, 0, len(ann))
	for k := range ann {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	permanentCode := 301
	var permanent, temporal string
	for _, k := range keys {
		name, own := strings.CutPrefix(k, OwnPrefix)
		if !own {
			var nginx bool
			if name, nginx = strings.CutPrefix(k, NginxPrefix); !nginx {
				continue
			}
			if _, shadowed := ann[OwnPrefix+name]; shadowed {
				continue
			}
		}
		v := ann[k]
		bad := func(want string) { problems = append(problems, fmt.Sprintf("annotation %s: %q is not %s", k, v, want)) }
		boolean := func(to *bool) {
			b, err := strconv.ParseBool(v)
			if err != nil {
				bad("true or false")
				return
			}
			*to = b
		}
		number := func(to *int, lo, hi int) {
			n, err := strconv.Atoi(v)
			if err != nil || n < lo || n > hi {
				bad(fmt.Sprintf("a number from %d to %d", lo, hi))
				return
			}
			*to = n
		}
		seconds := func(to *time.Duration) {
			n := 0
			if number(&n, 1, 86400); n > 0 {
				*to = time.Duration(n) * time.Second
			}
		}
		switch name {
		case "rewrite-target":
			o.RewriteTarget = v
		case "use-regex":
			boolean(&o.UseRegex)
		case "ssl-redirect":
			boolean(&o.SSLRedirect)
		case "force-ssl-redirect":
			boolean(&o.ForceSSL)
		case "permanent-redirect":
			permanent = v
		case "permanent-redirect-code":
			number(&permanentCode, 300, 308)
		case "temporal-redirect":
			temporal = v
		case "canary":
			boolean(&o.Canary)
		case "canary-weight":
			number(&o.CanaryWeight, 0, 1_000_000)
		case "canary-weight-total":
			number(&o.CanaryTotal, 1, 1_000_000)
		case "canary-by-header":
			o.CanaryHeader = v
		case "canary-by-header-value":
			o.CanaryValue = v
		case "canary-by-header-pattern":
			re, err := regexp.Compile(v)
			if err != nil {
				bad("a regular expression")
				continue
			}
			o.CanaryPattern = re
		case "canary-by-cookie":
			o.CanaryCookie = v
		case "backend-protocol":
			switch p := strings.ToUpper(v); p {
			case "HTTP", "HTTPS", "GRPC", "GRPCS":
				o.BackendProtocol = p
			default:
				bad("HTTP, HTTPS, GRPC or GRPCS")
			}
		case "proxy-body-size":
			n, err := parseSize(v)
			if err != nil {
				bad("a size such as 8m")
				continue
			}
			o.BodySize = n
		case "proxy-connect-timeout":
			seconds(&o.Connect)
		case "proxy-read-timeout":
			seconds(&o.ReadIdle)
		case "proxy-send-timeout":
			seconds(&o.SendIdle)
		default:
			problems = append(problems, fmt.Sprintf("annotation %s is not supported and has no effect", k))
		}
	}
	if permanent != "" {
		o.Redirect, o.RedirectCode = permanent, permanentCode
	}
	if temporal != "" {
		o.Redirect, o.RedirectCode = temporal, 302
	}
	return o, problems
}

// parseSize reads nginx's sizes: a number with an optional k, m or g.
func parseSize(v string) (int64, error) {
	shift := 0
	if v != "" {
		switch v[len(v)-1] | 0x20 {
		case 'k':
			shift = 10
		case 'm':
			shift = 20
		case 'g':
			shift = 30
		}
	}
	if shift > 0 {
		v = v[:len(v)-1]
	}
	n, err := strconv.ParseInt(v, 10, 33)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("size %q", v)
	}
	return n << shift, nil
}
