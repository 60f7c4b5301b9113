// Package resourcequota keeps status.hard and status.used of ResourceQuotas, as
// https://kubernetes.io/docs/concepts/policy/resource-quotas/ describes them.
//
// What a write takes of a quota is charged in the write's own transaction (package registry). This controller gives
// back what objects no longer take: those that are deleted, pods that have ended, and Services that became less. It
// counts everything anew each time, and so also finds what was made while the quota was.
package resourcequota
