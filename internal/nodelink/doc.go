// Package nodelink lets the control plane reach nodes that listen on nothing. A node dials every server
// and keeps one control connection to each (Link). Who wants to reach the node asks its server (Switch),
// which says so on the control connection; the node then dials a fresh connection for that one call. So
// each call has a TCP connection of its own: none waits behind another, and nothing is multiplexed.
//
// Connections are made and authenticated elsewhere; here they are bytes. The first line that a node
// sends says what a connection is:
//
//	control          the server then sends "call ID" lines and "ping", the node answers "pong"
//	call ID          the answer to such a line; everything after it is the caller's
package nodelink
