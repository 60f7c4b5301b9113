// Package gang places groups of pods whole or not at all. It is pure: it tries pods against a Cluster, takes back what
// it tried, and says what should be done.
//
// The types to know: Gang is a group with its members; Cluster is what they are tried against; Place finds nodes for a
// gang, Preempt finds Units (pods, or whole gangs that are only disrupted together) whose end makes room for one.
//
// Nothing is ever held for a gang that doesn't fit whole, so two gangs that each have half of what they need can't arise.
//
// A Cluster belongs to one goroutine. Nothing in this package locks.
package gang
