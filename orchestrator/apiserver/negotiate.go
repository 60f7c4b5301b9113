package apiserver

import (
	"mime"
	"net/url"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type format int

const (
	formatJSON format = iota
	formatYAML
	formatProtobuf
)

const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

func (f format) mediaType() string {
	switch f {
	case formatYAML:
		return mediaYAML
	case formatProtobuf:
		return mediaProtobuf
	}
	return mediaJSON
}

// negotiated is how an answer is written: its format, and what the object is shown as.
type negotiated struct {
	format  format
	pretty  bool
	as      string // "", or one of the transforms that the caller allowed
	version string // of what it is shown as
}

const (
	asTable               = "Table"
	asPartial             = "PartialObjectMetadata"
	asPartialList         = "PartialObjectMetadataList"
	asGroupDiscovery      = "APIGroupDiscoveryList"
	groupDiscovery        = "apidiscovery.k8s.io"
	groupDiscoveryV2      = "v2"
	groupDiscoveryV2Beta1 = "v2beta1" // the same document under its older name
	acceptedMediaTypes    = mediaJSON + ", " + mediaYAML + ", " + mediaProtobuf
	acceptedPatchTypes    = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
	includeObjectParam    = "includeObject"
	maxAcceptedClauses    = 32
	tableGroupVersionV1   = "v1"
)

// negotiate chooses the first clause of an Accept header, by quality, that can be answered.
// transforms lists the values of "as" that make sense here.
func negotiate(accept string, query url.Values, transforms []string) (negotiated, error) {
	pretty := isTrue(query.Get("pretty"))
	if strings.TrimSpace(accept) == "" {
		return negotiated{format: formatJSON, pretty: pretty}, nil
	}
	type clause struct {
		neg negotiated
		q   float64
	}
	var clauses []clause
	for _, part := range strings.SplitN(accept, ",", maxAcceptedClauses) {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		neg := negotiated{pretty: pretty || params["pretty"] == "1"}
		switch media {
		case mediaJSON, "*/*", "application/*", "text/*":
			if media == "text/*" {
				continue
			}
		case mediaYAML:
			neg.format = formatYAML
		case mediaProtobuf:
			neg.format = formatProtobuf
		default:
			continue
		}
		if as := params["as"]; as != "" {
			if !allowsTransform(as, params["g"], params["v"], neg.format, transforms) {
				continue
			}
			neg.as, neg.version = as, params["v"]
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if v, err := strconv.ParseFloat(s, 64); err == nil {
				q = v
			}
		}
		if q > 0 {
			clauses = append(clauses, clause{neg, q})
		}
	}
	if len(clauses) == 0 {
		return negotiated{}, errNotAcceptable(acceptedMediaTypes)
	}
	sort.SliceStable(clauses, func(i, j int) bool { return clauses[i].q > clauses[j].q })
	return clauses[0].neg, nil
}

func allowsTransform(as, group, version string, f format, transforms []string) bool {
	for _, t := range transforms {
		if t != as {
			continue
		}
		switch as {
		case asGroupDiscovery:
			return group == groupDiscovery && (version == groupDiscoveryV2 || version == groupDiscoveryV2Beta1) && f != formatProtobuf
		case asTable: // has no protobuf form
			return group == metav1.GroupName && version == tableGroupVersionV1 && f != formatProtobuf
		default:
			return group == metav1.GroupName && version == tableGroupVersionV1
		}
	}
	return false
}
