package raftstore

import "errors"

// The sentinels; compare with errors.Is.
var (
	// ErrCompacted: the revision is no longer kept. Read the present and watch from there.
	ErrCompacted = errors.New("raftstore: the revision has been compacted")
	// ErrFutureRevision: the revision has not been reached.
	ErrFutureRevision = errors.New("raftstore: the revision is in the future")
	// ErrConflict: a compare of Store.Put or Store.Delete did not hold.
	ErrConflict = errors.New("raftstore: the key was changed meanwhile")
	// ErrClosed: the store, or the watcher, has been closed or has stopped running.
	ErrClosed = errors.New("raftstore: closed")
	// ErrNotLeader: this node does not lead. Nothing was written.
	ErrNotLeader = errors.New("raftstore: not the leader")
	// ErrUncertain: leadership was lost while the write was under way. It may take effect or not.
	ErrUncertain = errors.New("raftstore: the outcome of the write is not known")
	// ErrFenced: Txn.Term has been succeeded by a later term. Nothing was written.
	ErrFenced = errors.New("raftstore: written in an earlier term")
	// ErrDegraded: a local disk failed or is full. The node takes no writes until it is opened again.
	ErrDegraded = errors.New("raftstore: the local storage failed")
	// ErrLeaseNotFound: the lease was never granted, was revoked or has expired.
	ErrLeaseNotFound = errors.New("raftstore: no such lease")
	// ErrLocked: another process, or another Store of this one, has the folder open.
	ErrLocked = errors.New("raftstore: the data folder is in use")
	// ErrCorrupt: stored bytes fail their checksum or contradict each other.
	ErrCorrupt = errors.New("raftstore: stored data is corrupt")
	// ErrNewer: a folder or a backup was written by a newer version of this package.
	ErrNewer = errors.New("raftstore: written by a newer version")
	// ErrKey: what is stored is sealed, and the KeyProvider does not open it. Nothing was written.
	ErrKey = errors.New("raftstore: the key does not fit")
	// ErrInvalid: the request makes no sense, whatever is stored.
	ErrInvalid = errors.New("raftstore: invalid request")
)
