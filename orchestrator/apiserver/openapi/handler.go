package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

const (
	protoV2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	protoV3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
)

// Config says what is described.
type Config struct {
	Kinds []*api.Kind
	// Reviews are kinds that are created, answered and never stored.
	Reviews []Review
	// Title and Version appear in the documents.
	Title, Version string
}

// Review is a kind that can only be created, such as a TokenReview.
type Review struct {
	GroupVersionKind schema.GroupVersionKind
	Resource         string
	Namespaced       bool
	New              func() runtime.Object
}

// Handler serves /openapi/v2, /openapi/v3 and /openapi/v3/{api/v1,apis/GROUP/VERSION} for the
// kinds. It makes nothing before it is asked. Safe for concurrent use.
func Handler(cfg Config) (http.Handler, error) {
	h := &handler{cfg: cfg, groups: map[string]*group{}, cache: map[string]*document{}}
	if h.cfg.Title == "" {
		h.cfg.Title = "Kubernetes"
	}
	seed := sha512.New()
	seed.Write(embedded)
	fmt.Fprintln(seed, cfg.Title, cfg.Version)
	for _, k := range cfg.Kinds {
		if k == nil || k.New == nil || k.NewList == nil {
			return nil, errors.New("openapi: a kind without New or NewList")
		}
		g := h.group(k.GroupVersionKind.GroupVersion())
		g.kinds = append(g.kinds, k)
		fmt.Fprintln(seed, k.GroupVersionKind, k.Resource, k.Namespaced, k.Status != nil, k.Scale != nil, reflect.TypeOf(k.New()))
	}
	for _, review := range cfg.Reviews {
		g := h.group(review.GroupVersionKind.GroupVersion())
		g.reviews = append(g.reviews, review)
		fmt.Fprintln(seed, review.GroupVersionKind, review.Resource, review.Namespaced)
	}
	copy(h.seed[:], seed.Sum(nil))
	return h, nil
}

// rootOf is the path of a group's version, without the first slash.
func rootOf(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

// group is what is served below one root.
type group struct {
	kinds   []*api.Kind
	reviews []Review
}

func (h *handler) group(gv schema.GroupVersion) *group {
	root := rootOf(gv)
	if h.groups[root] == nil {
		h.groups[root] = &group{}
	}
	return h.groups[root]
}

type handler struct {
	cfg    Config
	groups map[string]*group // by root
	seed   [sha512.Size]byte // what all documents are made from; hashes derive from it without making them

	mu    sync.Mutex // guards cache; held while a document is made, so that only one is at a time
	cache map[string]*document
}

// document is one document in one encoding, compressed.
type document struct {
	gzipped []byte
	size    int
}

func (h *handler) hash(name string) string {
	sum := sha512.Sum512(append(h.seed[:], name...))
	return fmt.Sprintf("%X", sum)
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/openapi/"), "/")
	switch {
	case name == "v3":
		h.index(w)
	case name == "v2":
		h.document(w, r, name, protoV2)
	case strings.HasPrefix(name, "v3/") && h.groups[strings.TrimPrefix(name, "v3/")] != nil:
		h.document(w, r, name, protoV3)
	default:
		http.NotFound(w, r)
	}
}

func (h *handler) index(w http.ResponseWriter) {
	list := map[string]any{}
	for root := range h.groups {
		list[root] = map[string]string{"serverRelativeURL": "/openapi/v3/" + root + "?hash=" + h.hash("v3/"+root)}
	}
	w.Header().Set("Content-Type", jsonType)
	_ = json.NewEncoder(w).Encode(map[string]any{"paths": list})
}

func (h *handler) document(w http.ResponseWriter, r *http.Request, name, protobuf string) {
	encoding, ok := negotiate(r.Header.Values("Accept"), protobuf)
	if !ok {
		http.Error(w, "only application/json and "+protobuf+" are served", http.StatusNotAcceptable)
		return
	}
	hash := h.hash(name)
	if want := r.URL.Query().Get("hash"); want != "" {
		if want != hash {
			u := *r.URL
			q := u.Query()
			q.Set("hash", hash)
			u.RawQuery = q.Encode()
			http.Redirect(w, r, u.String(), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
	}
	tag := strconv.Quote(hash)
	if encoding != jsonType {
		tag = strconv.Quote(hash + "-protobuf") // an ETag names one encoding's bytes
	}
	w.Header().Set("ETag", tag)
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	if slices.Contains(strings.Split(strings.ReplaceAll(r.Header.Get("If-None-Match"), " ", ""), ","), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	doc, err := h.get(name, encoding)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// Without the @, which no media type may have: clients would refuse to parse it.
	w.Header().Set("Content-Type", strings.ReplaceAll(encoding, "@", "."))
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", strconv.Itoa(len(doc.gzipped)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(doc.gzipped)
		}
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(doc.size))
	if r.Method == http.MethodHead {
		return
	}
	if z, err := gzip.NewReader(bytes.NewReader(doc.gzipped)); err == nil {
		_, _ = io.Copy(w, z)
	}
}

func negotiate(accept []string, protobuf string) (string, bool) {
	if len(accept) == 0 {
		return jsonType, true
	}
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		media, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		switch strings.TrimSpace(media) {
		case jsonType, "*/*", "application/*", "":
			return jsonType, true
		case protobuf, strings.Replace(protobuf, "application/com.github.", "application/com.github.googleapis.gnostic.", 1):
			return protobuf, true
		}
	}
	return "", false
}

func (h *handler) get(name, encoding string) (*document, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := name + " " + encoding
	if doc := h.cache[key]; doc != nil {
		return doc, nil
	}
	raw, err := h.build(name)
	if err != nil {
		return nil, err
	}
	if encoding != jsonType {
		if raw, err = toProto(raw, encoding); err != nil {
			return nil, fmt.Errorf("encode %s as protobuf: %w", name, err)
		}
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	doc := &document{gzipped: bytes.Clone(buf.Bytes()), size: len(raw)}
	h.cache[key] = doc
	return doc, nil
}

func toProto(raw []byte, encoding string) ([]byte, error) {
	if encoding == protoV2 {
		doc, err := openapi_v2.ParseDocument(raw)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(doc)
	}
	doc, err := openapi_v3.ParseDocument(raw)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(doc)
}

// build makes a document's JSON.
func (h *handler) build(name string) ([]byte, error) {
	all, err := load()
	if err != nil {
		return nil, err
	}
	part := &group{kinds: h.cfg.Kinds, reviews: h.cfg.Reviews}
	root, isV3 := strings.CutPrefix(name, "v3/")
	if isV3 {
		part = h.groups[root]
	}
	names := []string{metaPrefix + "DeleteOptions", metaPrefix + "Status", metaPrefix + "Patch", metaPrefix + "WatchEvent"}
	gvks := map[string][]any{metaPrefix + "DeleteOptions": nil, metaPrefix + "Status": {map[string]any{"group": "", "version": "v1", "kind": "Status"}}}
	items := map[string]any{}
	add := func(paths ...path) {
		for _, p := range paths {
			if isV3 {
				items["/"+strings.TrimPrefix(p.url, "/")] = p.v3()
			} else {
				items[p.url] = p.v2()
			}
		}
	}
	for _, k := range part.kinds {
		for _, t := range []any{k.New(), k.NewList()} {
			if err := all.addType(reflect.TypeOf(t)); err != nil {
				return nil, err
			}
		}
		object, list := models(k)
		names = append(names, object, list)
		gvk, listGVK := gvkOf(k), gvkOf(k)
		listGVK["kind"] = k.GroupVersionKind.Kind + "List"
		gvks[object], gvks[list] = append(gvks[object], gvk), append(gvks[list], listGVK)
		deletes := gvkOf(k)
		deletes["kind"] = "DeleteOptions"
		if !slices.ContainsFunc(gvks[metaPrefix+"DeleteOptions"], func(have any) bool { return reflect.DeepEqual(have, deletes) }) {
			gvks[metaPrefix+"DeleteOptions"] = append(gvks[metaPrefix+"DeleteOptions"], deletes)
		}
		if k.Scale != nil {
			const scale = "io.k8s.api.autoscaling.v1.Scale"
			names = append(names, scale)
			gvks[scale] = []any{map[string]any{"group": "autoscaling", "version": "v1", "kind": "Scale"}}
		}
		add(paths(k)...)
	}
	for _, review := range part.reviews {
		t := reflect.TypeOf(review.New())
		if err := all.addType(t); err != nil {
			return nil, err
		}
		model := modelName(t)
		names = append(names, model)
		gvks[model] = []any{gvkMap(review.GroupVersionKind)}
		add(reviewPath(review, model))
	}
	components := map[string]any{}
	for model, raw := range all.reach(names) {
		var definition map[string]any
		if err := json.Unmarshal(raw, &definition); err != nil {
			return nil, fmt.Errorf("decode definition %s: %w", model, err)
		}
		if isV3 {
			wrap(definition)
		} else {
			v2(definition, false)
		}
		if gvk := gvks[model]; gvk != nil {
			definition["x-kubernetes-group-version-kind"] = gvk
		}
		components[model] = definition
	}
	info := map[string]any{"title": h.cfg.Title, "version": h.cfg.Version}
	if isV3 {
		return json.Marshal(map[string]any{"openapi": "3.0.0", "info": info, "paths": items, "components": map[string]any{"schemas": components}})
	}
	return json.Marshal(map[string]any{"swagger": "2.0", "info": info, "paths": items, "definitions": components})
}
