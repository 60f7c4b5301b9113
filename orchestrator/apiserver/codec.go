package apiserver

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"
)

// maxBody is what Kubernetes allows: 3 MiB.
const maxBody = 3 << 20

// gzipFrom is the size from which an answer is worth compressing, as in Kubernetes.
const gzipFrom = 128 << 10

// codecs are made once per server: they hold no state.
type codecs struct {
	scheme           *runtime.Scheme
	json, strictJSON *kjson.Serializer
	yaml, strictYAML *kjson.Serializer
	protobuf         *protobuf.Serializer
}

func newCodecs(scheme *runtime.Scheme) *codecs {
	make := func(yaml, strict bool) *kjson.Serializer {
		return kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, scheme, scheme, kjson.SerializerOptions{Yaml: yaml, Strict: strict})
	}
	return &codecs{
		scheme: scheme, json: make(false, false), strictJSON: make(false, true), yaml: make(true, false), strictYAML: make(true, true),
		protobuf: protobuf.NewSerializer(scheme, scheme),
	}
}

// readBody reads a whole body of at most maxBody bytes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) { return readUpTo(w, r, maxBody) }

func readUpTo(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	if r.Body == http.NoBody {
		return nil, nil
	}
	// A client that stops sending in the middle holds nothing here for longer than that.
	connection := http.NewResponseController(w)
	if connection.SetReadDeadline(time.Now().Add(requestTimeout)) == nil {
		defer func() { _ = connection.SetReadDeadline(time.Time{}) }()
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		if _, ok := err.(*http.MaxBytesError); ok {
			return nil, err
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, apierrors.NewTimeoutError("the body of the request did not arrive in time", 0)
		}
		return nil, apierrors.NewBadRequest(fmt.Sprintf("unable to read the body: %v", err))
	}
	return raw, nil
}

// bodyFormat says how a body is written. No content type means JSON.
func bodyFormat(r *http.Request) (format, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return formatJSON, nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return 0, errMediaType(acceptedMediaTypes)
	}
	switch media {
	case mediaJSON:
		return formatJSON, nil
	case mediaYAML, "application/x-yaml", "text/yaml":
		return formatYAML, nil
	case mediaProtobuf:
		return formatProtobuf, nil
	}
	return 0, errMediaType(acceptedMediaTypes)
}

// fieldValidation is what becomes of fields that a kind doesn't have.
type fieldValidation string

const (
	validateIgnore fieldValidation = "Ignore"
	validateWarn   fieldValidation = "Warn"
	validateStrict fieldValidation = "Strict"
)

// decode reads a body as an object of kind want. Warnings about unknown fields go into the
// answer's headers.
func (c *codecs) decode(w http.ResponseWriter, raw []byte, f format, want schema.GroupVersionKind, into runtime.Object, v fieldValidation) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return apierrors.NewBadRequest("the body of the request is empty: an object of kind " + want.Kind + " was expected")
	}
	var decoder runtime.Decoder
	switch {
	case f == formatProtobuf:
		decoder = c.protobuf
	case f == formatYAML && v == validateIgnore:
		decoder = c.yaml
	case f == formatYAML:
		decoder = c.strictYAML
	case v == validateIgnore:
		decoder = c.json
	default:
		decoder = c.strictJSON
	}
	obj, got, err := decoder.Decode(raw, &want, into)
	if err != nil {
		strict, isStrict := runtime.AsStrictDecodingError(err)
		if !isStrict || obj == nil || v == validateStrict {
			return decodeError(err, raw, got, want)
		}
		for _, problem := range strict.Errors() {
			addWarning(w, problem.Error())
		}
	}
	if got != nil && got.GroupVersion() != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
	}
	if got != nil && got.Kind != want.Kind || obj != into {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: the kinds differ", got.Kind, got.Version, want.Kind))
	}
	return nil
}

func decodeError(err error, raw []byte, got *schema.GroupVersionKind, want schema.GroupVersionKind) error {
	if got != nil && got.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", got.Kind, got.Version, want.Kind, err))
	}
	summary := string(raw)
	if len(summary) > 30 {
		summary = summary[:30] + " ..."
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%q)", want.Kind, err, summary))
}

// addWarning adds a Warning header as kubectl prints it.
func addWarning(w http.ResponseWriter, text string) {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	text = strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`)
	w.Header().Add("Warning", `299 - "`+text+`"`)
}

// encode returns an object's bytes. The object has its kind set.
func (c *codecs) encode(obj runtime.Object, f format) ([]byte, error) {
	switch f {
	case formatProtobuf:
		var buf bytes.Buffer
		if err := c.protobuf.Encode(obj, &buf); err != nil {
			return nil, err
		}
		return buf.Bytes(), nil
	case formatYAML:
		raw, err := json.Marshal(obj)
		if err != nil {
			return nil, err
		}
		return yaml.JSONToYAML(raw)
	default:
		raw, err := json.Marshal(obj)
		return append(raw, '\n'), err
	}
}

// fromJSON turns cached JSON into the format that was asked for; protobuf isn't one of them.
func fromJSON(raw []byte, neg negotiated) ([]byte, error) {
	if neg.format == formatYAML {
		return yaml.JSONToYAML(raw)
	}
	if neg.pretty {
		var buf bytes.Buffer
		if err := json.Indent(&buf, raw, "", "  "); err != nil {
			return nil, err
		}
		buf.WriteByte('\n')
		return buf.Bytes(), nil
	}
	return raw, nil
}

// writeObject answers with an object that has its kind set.
func (s *Server) writeObject(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object, neg negotiated) error {
	raw, err := s.codecs.encode(obj, neg.format)
	if err != nil && protobuf.IsNotMarshalable(err) {
		neg.format = formatJSON
		raw, err = s.codecs.encode(obj, formatJSON)
	}
	if err != nil {
		return fmt.Errorf("encode %T: %w", obj, err)
	}
	if neg.pretty && neg.format == formatJSON {
		if raw, err = fromJSON(raw, neg); err != nil {
			return err
		}
	}
	return writeRaw(w, r, code, neg.format.mediaType(), raw)
}

// writeRaw writes a whole answer, compressed where it is large and the client can read that.
func writeRaw(w http.ResponseWriter, r *http.Request, code int, contentType string, raw []byte) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, private")
	h.Add("Vary", "Accept")
	if len(raw) >= gzipFrom && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		w.WriteHeader(code)
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if _, err := z.Write(raw); err != nil {
			return err
		}
		return z.Close()
	}
	h.Set("Content-Length", fmt.Sprint(len(raw)))
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(raw)
	return err
}

// withKind returns obj with its kind set, a shallow change of an object that is the caller's own.
func withKind(obj runtime.Object, gvk schema.GroupVersionKind) runtime.Object {
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj
}
