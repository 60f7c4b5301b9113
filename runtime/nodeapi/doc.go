// Package nodeapi answers the paths of a kubelet for one node: /containerLogs, /exec, /attach,
// /portForward and /healthz. New makes the handler. It authenticates nobody and authorizes nothing:
// only the API server's connection to the node may reach it.
//
// ReadLogs reads the files that an engine writes in CRI's log format, across rotation, and is what
// /containerLogs uses; it is exported because tools read the same files.
//
// Streams speak SPDY/3.1 and WebSockets with the protocols v5.channel.k8s.io and older. The handler
// is safe for concurrent use. A session ends with its client's connection, and everything that it
// started ends with it.
package nodeapi
