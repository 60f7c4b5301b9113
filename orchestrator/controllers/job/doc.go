// Package job runs batch/v1 Jobs as https://kubernetes.io/docs/concepts/workloads/controllers/job/ describes them: pods
// until enough have succeeded, too many have failed, or the time is over.
//
// # How no pod is counted twice or lost
//
// Every pod carries the finalizer batch.kubernetes.io/job-tracking. When it has ended, three writes follow each other, as
// the API reference of status.uncountedTerminatedPods says: its UID is put into the status, its finalizer goes, its UID is
// exchanged for one more in the counter. What was done is told by the objects alone, so whoever comes next goes on after
// any of them. Of Indexed Jobs a success is counted by its index, which can't be counted twice. The last failed pod of an
// index with a limit of its own keeps its finalizer until its successor, which carries the count on, is there.
//
// A pod that the controller ends because the Job was suspended or made smaller loses its finalizer first: it counts as
// nothing. The delay before failed pods are replaced is read from the pods that have failed, too.
//
// # Gangs
//
// A Job is a gang when it is Indexed, parallelism is at least completions, backoffLimitPerIndex is unset, and its template
// names (in spec.schedulingGroup.podGroupName, or by the label scheduling.x-k8s.io/pod-group) a PodGroup whose
// schedulingPolicy is gang. Then
//   - all its pods start at once: the scheduler places the group whole, and no pod is replaced alone;
//   - when one of them fails, all others end, also those that have succeeded are run again, and it counts as one failure.
//     It is the first one's: the pod failure policy decides by how that pod ended. Nothing starts anew before all have ended;
//   - they succeed together: completedIndexes is written when the last one has ended well, or the success policy is met.
//
// Ranks find each other by name: the pod of index I has the host name NAME-I, and with template.spec.subdomain and a
// headless Service of that name (publishNotReadyAddresses: true) it is NAME-I.SUBDOMAIN in DNS, whichever node it runs on
// and however often it was replaced. A program as torchrun takes NAME-0.SUBDOMAIN as MASTER_ADDR, completions as
// WORLD_SIZE, and JOB_COMPLETION_INDEX as its rank.
//
// # Files
//
// decide.go is the order of a decision; count.go counts ended pods, policy.go says what a failure means, backoff.go when
// to replace, replicate.go how many pods there should be, gang.go what of this is different for gangs. All of it is pure.
// controller.go writes what was decided, pods.go makes pods.
package job
