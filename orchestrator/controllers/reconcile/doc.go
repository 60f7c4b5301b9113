// Package reconcile is the loop under every controller: watch, map to keys, reconcile one key at
// a time. It is a leaf and knows no controller.
//
// Types to know: [Client] (what a controller sees of the cluster), [Controller] (watches and a
// reconcile function), [Key] and [Recorder] (bounded, aggregating events).
//
// # Concurrency properties
//
//   - One key is never reconciled by two workers at once; a key that is enqueued while it is being
//     reconciled is reconciled once more afterwards.
//   - Reads after a write see it (the contract of Client), so a reconcile that follows another of
//     the same key sees everything that the first one wrote. That is why there are no
//     "expectations" as in Kubernetes' own controllers: the race they close cannot happen.
//   - A panic in a handler or a reconcile is logged and becomes an error with back-off. It never
//     reaches the host.
package reconcile
