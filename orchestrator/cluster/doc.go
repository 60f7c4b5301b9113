// Package cluster is what makes several processes one cluster: the one TLS port that they share out by
// protocol, the tokens with which a machine joins, and the connections between members.
//
// Port accepts TLS connections and hands each to the listener of the protocol that the client asked for
// (ALPN): the API, raft, joins, the nodes' own connections. Token names a cluster by the hash of its CA's
// key and proves that its holder was invited. ServeJoin answers those who hold one; JoinMember and JoinNode ask. Links
// carries connections between members, each certain of the other by certificates of the cluster's CA.
//
// Nothing here knows the store or the registry: package orchestrator joins them.
package cluster
