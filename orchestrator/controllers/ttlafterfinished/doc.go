// Package ttlafterfinished deletes Jobs that ended spec.ttlSecondsAfterFinished ago, and with them their pods, as
// https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/ describes it.
package ttlafterfinished
