// Package standby is one node's part of scaling Services to zero: it holds the connections and requests that come
// while a Service has no endpoint, and says in a Lease when the Service was last used and how many wait.
//
// A Service asks for it with the annotation pintle.dev/scale-to-zero-after (services.ScaleToZeroAfter). Desk is the
// type to know: data planes and ingress ask it for a Service's Entry, count with Entry.Begin what is open, and wait
// with Entry.Wait for an endpoint. The controller scaletozero reads the Leases, scales the Service's workload to zero
// once no node uses it, and up again when something waits.
//
// What is held isn't read: a TCP connection's bytes stay in the kernel's buffer, an HTTP request's in the ingress's
// (64 KiB each at most). Config bounds how many wait, and for how long. All methods are safe for concurrent use.
package standby
