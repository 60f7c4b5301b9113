// Package resourceclaim makes ResourceClaims from templates for the pods that name them, ends the reservations of pods that
// have ended, and takes allocations back that nobody uses any more, as the Kubernetes documentation of dynamic resource
// allocation has it.
package resourceclaim
