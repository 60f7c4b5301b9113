// Command openapigen writes the OpenAPI definitions that the API server embeds.
//
// It is a module of its own so that nobody who imports Pintle inherits the generator. The
// definitions are those that kube-openapi's generator makes from k8s.io/api, in OpenAPI v3 form,
// as one gzip-compressed JSON object from model name to schema. The paths are not in it: the API
// server writes them from the kinds that it serves.
//
// Run it with go generate in this folder after k8s.io/api changes.
package main

//go:generate go run k8s.io/kube-openapi/cmd/openapi-gen --output-dir ./gen --output-pkg github.com/pintle/pintle/internal/openapigen/gen --output-file definitions.go --go-header-file header.txt --report-filename /dev/null --output-model-name-file "" k8s.io/api/core/v1 k8s.io/api/apps/v1 k8s.io/api/rbac/v1 k8s.io/api/networking/v1 k8s.io/api/discovery/v1 k8s.io/api/coordination/v1 k8s.io/api/events/v1 k8s.io/api/node/v1 k8s.io/api/scheduling/v1 k8s.io/api/scheduling/v1beta1 k8s.io/api/scheduling/v1alpha3 k8s.io/api/policy/v1 k8s.io/api/resource/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/autoscaling/v1 k8s.io/api/autoscaling/v2 k8s.io/api/batch/v1 k8s.io/api/storage/v1 k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/version k8s.io/apimachinery/pkg/util/intstr k8s.io/apimachinery/pkg/api/resource
//go:generate go run . ../../orchestrator/apiserver/openapi/definitions.json.gz

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/pintle/pintle/internal/openapigen/gen"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: openapigen FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(file string) error {
	definitions := gen.GetOpenAPIDefinitions(func(name string) spec.Ref {
		return spec.MustCreateRef("#/components/schemas/" + name)
	})
	out := map[string]json.RawMessage{}
	for name, definition := range definitions {
		schema := definition.Schema
		delete(schema.Extensions, common.ExtensionV2Schema) // the server derives v2 from v3
		raw, err := json.Marshal(schema)
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		out[name] = raw
	}
	raw, err := json.Marshal(out) // sorted by name, so equal inputs give equal bytes
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(raw); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	fmt.Printf("%d definitions, %d bytes, %d compressed\n", len(out), len(raw), buf.Len())
	return os.WriteFile(file, buf.Bytes(), 0o644)
}
