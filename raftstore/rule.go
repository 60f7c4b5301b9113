package raftstore

// rule is one that the store keeps, unless it is built to break it.
type rule string

const (
	ruleSyncBeforeAck rule = "sync before ack" // a write is acknowledged after it is synced
)
