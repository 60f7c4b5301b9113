//go:build !raftstore_next

package raftstore

// programSpeaks is the highest version of the log's format that this program speaks.
const programSpeaks = formatVersion
