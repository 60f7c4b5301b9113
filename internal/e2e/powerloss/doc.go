// Package powerloss cuts the power of a store at any moment and looks at what is left.
//
// A store runs in a child process on a file system of ours (disk.go) that records each write,
// truncation, creation, renaming, removal and sync, and, between them, what the store's clients have
// been promised (recording.go). Afterwards the recording is played up to any point, and the folder is
// rebuilt as a disk may hold it then (crash.go). A store is opened there and checked (promise.go):
//
//   - it opens, and becomes ready without help;
//   - every acknowledged write, compaction, lease and restore is there, at its revision;
//   - a write that was not acknowledged is there whole or not at all, and so is every transaction;
//   - every revision since the compaction is in the history, once;
//   - Store.Check finds nothing wrong, and the store takes the next write.
//
// What a disk may do with what was not synced: keep it, lose it, keep any sectors of 512 bytes of any
// of the writes and not the others, grow a file without its data, and keep any of the changes to a
// directory without those before. A renaming is whole or not at all. A file's sync promises nothing
// about its name: that takes a sync of the folder. After a sync that failed, what it should have
// synced is in doubt for ever, although it is read back: no later sync writes it.
package powerloss
