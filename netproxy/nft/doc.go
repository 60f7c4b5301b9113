// Package nft programs Services into one nftables table of the flat layout: a service is set
// elements only, and one chain exists per endpoint count, so that a change costs the elements
// that changed, sent as one atomic netlink batch.
//
// The table is called pintle-<name>; nothing outside it is read or written, except conntrack
// entries of UDP endpoints that went away. A Proxy is safe for concurrent use. On systems other
// than Linux New returns an error.
package nft
