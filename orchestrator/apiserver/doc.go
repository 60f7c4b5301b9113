// Package apiserver serves the Kubernetes API over HTTP: routes, authentication, authorization,
// codecs, patch and apply, watch streams.
//
// Types to know: Config says what is served and to whom; Server runs on a TLS listener, on an
// in-memory one, or on both. State lives in the registry alone: a Server keeps none, and all of it
// is safe for concurrent use.
//
// One request: ServeHTTP finds out what is asked (requestInfo), who asks, whether they may, and
// calls one handler that returns an error; writeError alone maps errors to metav1.Status. A panic in
// a handler is a 500 of that one request.
//
// Unknown paths are 404. A body larger than 3 MiB is 413 before it is read to its end, except on
// requests that are streamed on to a node.
package apiserver
