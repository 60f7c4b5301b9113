// Package linearizable runs clients against a store of several members while a nemesis disturbs it,
// and judges what they saw. Tests of it need the tag raftstore_faults, for the disks that stall.
//
// # The properties
//
//   - Linearizable (model.go): puts, deletes, compare-and-swaps, transactions over two keys, reads of
//     one key and of both, from all members, have an order that agrees with what each returned and
//     with when it ran. porcupine looks for one. What returned no answer may have happened at any
//     later time, or never.
//   - Revisions tell the truth (audit.go): a write that began after another was acknowledged has a
//     later revision, and a read that began then is at that revision at least.
//   - Exactly once (ledger.go): a watcher on each member sees each revision once, in order, through
//     restarts and elections; all see the same; every acknowledged write is in it at its revision;
//     no write is in it twice, and none that was refused.
//   - Fenced (fenced.go): in the order of the revisions, the terms of writes that carry one never fall.
//   - Members agree at the end of each round: the same revision, and Store.Check is content.
//
// # The nemesis
//
// nemesis.go: partitions of all kinds, asymmetric ones too, kills and orderly stops, pauses, clocks
// that jump by years, disks that stall, members that come and go, snapshots that are installed,
// compactions, backups that are restored and compared.
//
// broken_test.go proves that each property can fail: a store with one rule broken does not pass.
package linearizable
