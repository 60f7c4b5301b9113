// Package nodeproxy carries logs, exec, attach, port-forward and node proxy requests from the API
// server to the agent of the node where the pod runs.
//
// A Proxy keeps no connections: each request dials the node once, and the connection ends with the
// request. After a 101 both directions are copied byte for byte, so SPDY and WebSocket clients
// talk with the agent itself. A Proxy is safe for concurrent use.
package nodeproxy
