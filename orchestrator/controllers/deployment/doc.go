// Package deployment rolls Deployments out over ReplicaSets, as Kubernetes does, and brings the
// last available revision back when an update fails. DESIGN.md has the rules of the rollback.
//
// decide is pure; the shell around it reads, writes what decide planned, and sends the events.
package deployment
