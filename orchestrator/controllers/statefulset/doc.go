// Package statefulset keeps pods with identities, as Kubernetes documents StatefulSets: stable names, host names and
// claims, created and ended in order, updated from the highest ordinal down to the partition.
//
// What is other than in Kubernetes: a broken pod doesn't block the way back. A pod of a revision that was given up, of one
// that never worked, or that crashes repeatedly, is replaced at once by one of the revision that it should have
// (Kubernetes documents this as "forced rollback", by hand). And an update that fails is rolled back, see package rollback.
package statefulset
