// Package openapi serves the OpenAPI documents of the kinds that an API server serves: version 2
// at /openapi/v2 (JSON and protobuf) and version 3 at /openapi/v3 and /openapi/v3/….
//
// Definitions of Kubernetes' types are embedded (internal/openapigen writes them); a kind whose
// type isn't among them is described from its Go type. Documents are made when first asked for and
// kept gzip-compressed only, so that an idle server holds some hundred kilobytes.
package openapi
