// Package services is the table of Services and their endpoints: Service and EndpointSlice
// objects go in, immutable resolved Services and minimal diffs come out. It decides which
// endpoints a new connection may reach (ready ones; terminating ones only when no other exists;
// local ones where a traffic policy asks for them), so that every data plane decides alike.
//
// A Table is not safe for concurrent use. The *Service values that it hands out are never
// changed and may be shared freely.
package services
