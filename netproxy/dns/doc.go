// Package dns is the cluster's DNS server. Answers for Services are packed when a Service changes
// and copied when they are asked for, without allocation; other names go to the host's resolvers.
//
// Zone may be updated while Server serves; both are safe for concurrent use.
package dns
