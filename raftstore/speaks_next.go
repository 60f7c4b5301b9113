//go:build raftstore_next

package raftstore

// The tag raftstore_next builds a program of the next version, which is made up, to prove that programs of two
// versions form one cluster. Nobody else builds it.
const programSpeaks = formatMadeUp
