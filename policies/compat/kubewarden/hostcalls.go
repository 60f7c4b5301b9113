package kubewarden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/pintle/pintle/policies/compat/internal/cluster"
	"github.com/pintle/pintle/policies/guest"
)

// hostCalls answers what one policy asks of its host. It is safe for concurrent use.
type hostCalls struct {
	cfg          *Config
	policy       string
	capabilities []string
	reader       cluster.Reader
}

// reply is an answer, or a refusal that the guest is told.
type reply struct {
	payload []byte
	refusal string
}

// maxPayload bounds a request of the guest's, in bytes.
const maxPayload = 1 << 20

// fromGuest takes binding, namespace, operation and payload, each a pointer and a length. An error ends the call: the
// guest lies about its memory, or the call's time is over. All else is told the guest.
func (h *hostCalls) fromGuest(ctx context.Context, in *guest.Instance, s []uint64) (reply, error) {
	var parts [4][]byte
	for i := range parts {
		if uint32(s[2*i+1]) > maxPayload {
			return reply{}, fmt.Errorf("a host call of %d bytes: %w", uint32(s[2*i+1]), guest.ErrOutput)
		}
		var err error
		if parts[i], err = in.Read(uint32(s[2*i]), uint32(s[2*i+1])); err != nil {
			return reply{}, err
		}
	}
	if err := in.Charge(uint64(100 + len(parts[3]))); err != nil {
		return reply{}, err
	}
	payload, err := h.answer(ctx, in, string(parts[0]), string(parts[1]), string(parts[2]), parts[3])
	if ctx.Err() != nil {
		return reply{}, context.Cause(ctx)
	}
	if errors.Is(err, guest.ErrFuel) {
		return reply{}, err
	}
	if err != nil {
		h.cfg.Logger.WarnContext(ctx, "a policy was refused by its host", "policy", h.policy,
			"namespace", cut(parts[1]), "operation", cut(parts[2]), "error", cut([]byte(err.Error())))
		return reply{refusal: err.Error()}, nil
	}
	return reply{payload: payload}, in.Charge(uint64(len(payload)))
}

func (h *hostCalls) answer(ctx context.Context, in *guest.Instance, binding, namespace, operation string, payload []byte) ([]byte, error) {
	switch binding {
	case "kubewarden":
	case "kubernetes": // before there were operations
		kind, ok := map[string][2]string{
			"ingresses": {"networking.k8s.io/v1", "Ingress"}, "namespaces": {"v1", "Namespace"}, "services": {"v1", "Service"},
		}[namespace]
		if !ok {
			return nil, fmt.Errorf("unknown namespace: %s", namespace)
		}
		return h.list(ctx, kind[0], kind[1], cluster.Selection{})
	default:
		return nil, fmt.Errorf("unknown binding: %s", binding)
	}
	switch namespace {
	case "tracing":
		if operation == "log" {
			return nil, h.trace(ctx, in, payload)
		}
	case "kubernetes":
		return h.kubernetes(ctx, operation, payload)
	case "oci", "net", "crypto":
		if !h.grants("kubewarden:" + namespace) {
			return nil, fmt.Errorf("policy has not been granted the host capability %s: add the capability %q to the policy object",
				namespace, "kubewarden:"+namespace)
		}
		if h.cfg.Host == nil {
			return nil, fmt.Errorf("this host offers policies no %s: set Config.Host", namespace)
		}
		return h.cfg.Host(ctx, namespace, operation, payload)
	default:
		return nil, fmt.Errorf("unknown namespace: %s", namespace)
	}
	return nil, fmt.Errorf("unknown operation: %s", operation)
}

// kubernetes answers questions about the cluster.
func (h *hostCalls) kubernetes(ctx context.Context, operation string, payload []byte) ([]byte, error) {
	var q struct {
		APIVersion    string          `json:"api_version"`
		Kind          string          `json:"kind"`
		Name          string          `json:"name"`
		Namespace     string          `json:"namespace"`
		LabelSelector string          `json:"label_selector"`
		FieldSelector string          `json:"field_selector"`
		Review        json.RawMessage `json:"subject_access_review"`
	}
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, fmt.Errorf("payload of %s: %w", operation, err)
	}
	selection := cluster.Selection{Namespace: q.Namespace, Labels: q.LabelSelector, Fields: q.FieldSelector}
	switch operation {
	case "list_resources_by_namespace":
		if res := h.reader.Resource(q.APIVersion, q.Kind); !res.Namespaced {
			return nil, fmt.Errorf("resource %s/%s is cluster wide. Cannot search for it inside of a namespace", q.APIVersion, q.Kind)
		}
		if q.Namespace == "" {
			return nil, errors.New("list_resources_by_namespace needs a namespace")
		}
		return h.list(ctx, q.APIVersion, q.Kind, selection)
	case "list_resources_all":
		selection.Namespace = ""
		return h.list(ctx, q.APIVersion, q.Kind, selection)
	case "get_resource":
		res := h.reader.Resource(q.APIVersion, q.Kind)
		if !res.Namespaced {
			q.Namespace = ""
		} else if q.Namespace == "" {
			return nil, fmt.Errorf("Resource %s/%s is namespaced, but no namespace was provided", q.APIVersion, q.Kind)
		}
		b, err := h.reader.Get(ctx, res, q.Namespace, q.Name)
		if err == nil && len(b) == 0 {
			err = fmt.Errorf("Cannot find %s/%s named '%s' inside of namespace '%s'", q.APIVersion, q.Kind, q.Name, q.Namespace)
		}
		return b, err
	case "can_i":
		if !h.grants("kubewarden:can_i") {
			return nil, errors.New(`policy has not been granted access reviews: add the capability "kubewarden:can_i" to the policy object`)
		}
		if h.cfg.CanI == nil {
			return nil, errors.New("this host offers policies no access reviews: set Config.CanI")
		}
		return h.cfg.CanI(ctx, q.Review)
	}
	return nil, fmt.Errorf("unknown operation: %s", operation)
}

func (h *hostCalls) list(ctx context.Context, apiVersion, kind string, s cluster.Selection) ([]byte, error) {
	items, err := h.reader.List(ctx, h.reader.Resource(apiVersion, kind), s)
	if err != nil {
		return nil, err
	}
	objects := make([]map[string]any, len(items))
	for i, item := range items {
		objects[i] = item.Object
	}
	return json.Marshal(map[string]any{
		"apiVersion": apiVersion, "kind": kind + "List", "metadata": struct{}{}, "items": objects,
	})
}

// maxLog bounds one line that a policy logs.
const maxLog = 4 << 10

// console logs a line. It costs as much as the line is long.
func (h *hostCalls) console(ctx context.Context, in *guest.Instance, line []byte) error {
	if err := in.Charge(uint64(1000 + len(line))); err != nil {
		return err
	}
	h.cfg.Logger.InfoContext(ctx, "a policy logged", "policy", h.policy, "line", cut(line))
	return nil
}

// trace logs an event as the SDKs send it: an object with level, message, and what else they know.
func (h *hostCalls) trace(ctx context.Context, in *guest.Instance, payload []byte) error {
	if err := in.Charge(uint64(1000 + len(payload))); err != nil {
		return err
	}
	if !h.cfg.Logger.Enabled(ctx, slog.LevelError) {
		return nil // nobody reads
	}
	var event struct{ Level, Message string }
	if json.Unmarshal(payload, &event) != nil {
		event.Message = cut(payload)
	}
	level := slog.LevelDebug
	switch strings.ToLower(event.Level) {
	case "info":
		level = slog.LevelInfo
	case "warning", "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	h.cfg.Logger.Log(ctx, level, "a policy logged", "policy", h.policy, "line", cut([]byte(event.Message)), "event", cut(payload))
	return nil
}

func cut(b []byte) string {
	s := strings.ToValidUTF8(string(b[:min(len(b), maxLog)]), string(utf8.RuneError))
	return strings.TrimRight(s, "\n")
}
