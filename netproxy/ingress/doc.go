// Package ingress serves networking/v1 Ingresses: HTTP/1.1 on fasthttp, HTTP/2 and gRPC on
// net/http, WebSockets and other upgrades spliced. It sends straight to the endpoints' addresses.
//
// Controller is the type to know. Its Set methods may be called while Run serves; each swaps the
// whole routing state at once, and an endpoint that left gets no further request. Quiesce returns
// once none that chose it before is still unanswered.
package ingress
