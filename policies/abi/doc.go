// Package abi holds what a policy host and those who call it must both name: the messages of policy.proto, the layout
// of the node table, and a policy's configuration. It imports the standard library and protobuf alone; objects of
// Kubernetes cross it as bytes. README.md is the page for authors of modules and SDKs.
package abi
