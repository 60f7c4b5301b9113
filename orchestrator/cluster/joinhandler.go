package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Role is what an invited machine may become.
type Role string

// The roles. A member holds the cluster's keys and its state; a node runs pods.
const (
	RoleMember Role = "member"
	RoleNode   Role = "node"
)

// ErrNotInvited is the answer to a token that is unknown, expired, or for another role.
var ErrNotInvited = errors.New("the join token is unknown, expired, or for another role: make a new one")

// Grant is what an invited member learns: with it, it is the cluster.
type Grant struct {
	Name              string // the cluster's
	ClusterID         string // see MemberRequest; "" from a member from before there were ids
	CACert, CAKey     []byte // PEM
	ServiceAccountKey []byte // PEM
	ServiceCIDR       string
}

// Admission is what an invited node learns.
type Admission struct {
	CACert           []byte // PEM
	Certificate      []byte // PEM, of the agent, for the key of its request
	ProxyCertificate []byte // PEM, of the proxy, for the same key
	Cluster          string // the cluster's name
	ServiceCIDR      string
}

// Host answers for the cluster. Errors that are a Refusal reach the machine with their text.
type Host interface {
	// Invited is nil when the invitation is good for the role.
	Invited(ctx context.Context, id, secret string, role Role) error
	Grant() (Grant, error)
	// AddMember lets the store of the member at address take part. Adding it again changes its address.
	AddMember(ctx context.Context, member, address string) error
	// Drained waits until no proxy of the cluster sends new connections to the address, or ctx ends.
	Drained(ctx context.Context, address netip.Addr) error
	// AdmitNode signs the key of csr (PEM) for the node of that name. renewal says that the caller has
	// proved to be that node already.
	AdmitNode(ctx context.Context, name string, csr []byte, renewal bool) (Admission, error)
}

// Refusal is an error that the joining machine's operator shall read.
type Refusal struct{ Reason string }

func (r Refusal) Error() string { return r.Reason }

// maxJoinBody is plenty for a name and a certificate request.
const maxJoinBody = 64 << 10

// newJoinHandler answers what ServeJoin receives.
func newJoinHandler(host Host, log *slog.Logger) http.Handler {
	h := &joinHandler{host: host, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/member", h.answer(h.member))
	mux.HandleFunc("POST /v1/member/address", h.answer(h.address))
	mux.HandleFunc("POST /v1/node", h.answer(h.node))
	mux.HandleFunc("POST /v1/node/renewal", h.answer(h.renewal))
	mux.HandleFunc("POST /v1/node/drained", h.answer(h.drained))
	return mux
}

type joinHandler struct {
	host Host
	log  *slog.Logger
}

type memberBody struct{ Member, Address string }

type nodeBody struct {
	Name string
	CSR  []byte
}

type drainedBody struct{ Address netip.Addr }

type failureBody struct{ Error string }

// answer turns what a step returns into a response.
func (h *joinHandler) answer(step func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxJoinBody)
		body, err := step(r)
		status := http.StatusOK
		if err != nil {
			h.log.Warn("a machine was not let in", "from", r.RemoteAddr, "path", r.URL.Path, "error", err)
			var refusal Refusal
			switch {
			case errors.Is(err, ErrNotInvited):
				status = http.StatusUnauthorized
			case errors.As(err, &refusal):
				status = http.StatusForbidden
			default:
				status = http.StatusServiceUnavailable
			}
			body = failureBody{Error: err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
}

func (h *joinHandler) invited(r *http.Request, role Role) error {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	id, secret, both := strings.Cut(bearer, ".")
	if !ok || !both || !tokenID.MatchString(id) || !tokenSecret.MatchString(secret) {
		return ErrNotInvited
	}
	return h.host.Invited(r.Context(), id, secret, role)
}

func (h *joinHandler) member(r *http.Request) (any, error) {
	if err := h.invited(r, RoleMember); err != nil {
		return nil, err
	}
	return h.host.Grant()
}

func (h *joinHandler) address(r *http.Request) (any, error) {
	var body memberBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	// Its certificate says who it is: no member can move another.
	if subject(r) != memberName(body.Member) {
		return nil, Refusal{fmt.Sprintf("this needs the certificate of member %q", body.Member)}
	}
	return struct{}{}, h.host.AddMember(r.Context(), body.Member, body.Address)
}

func (h *joinHandler) node(r *http.Request) (any, error) {
	if err := h.invited(r, RoleNode); err != nil {
		return nil, err
	}
	return h.admit(r, false)
}

func (h *joinHandler) renewal(r *http.Request) (any, error) { return h.admit(r, true) }

func (h *joinHandler) admit(r *http.Request, renewal bool) (any, error) {
	var body nodeBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	if problems := validation.IsDNS1123Subdomain(body.Name); len(problems) > 0 {
		return nil, Refusal{fmt.Sprintf("node name %q: %s", body.Name, problems[0])}
	}
	if renewal && subject(r) != nodeUser(body.Name) {
		return nil, Refusal{fmt.Sprintf("this needs the certificate of node %q", body.Name)}
	}
	return h.host.AdmitNode(r.Context(), body.Name, body.CSR, renewal)
}

func (h *joinHandler) drained(r *http.Request) (any, error) {
	var body drainedBody
	if err := read(r, &body); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(subject(r), nodeUser("")) {
		return nil, Refusal{"this needs the certificate of a node"}
	}
	return struct{}{}, h.host.Drained(r.Context(), body.Address)
}

func read(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return Refusal{"the request is not understood: " + err.Error()}
	}
	return nil
}

const groupNodes = "system:nodes"

// nodeUser is whom the API knows the node as.
func nodeUser(node string) string { return "system:node:" + node }

// NodeName is the node whose certificate that is; "" for everybody else's.
func NodeName(commonName string, organizations []string) string {
	name, ok := strings.CutPrefix(commonName, nodeUser(""))
	if !ok || !slices.Contains(organizations, groupNodes) {
		return ""
	}
	return name
}

// joinTimeout bounds one request of a joining machine.
const joinTimeout = 30 * time.Second
