package raftstore

// rule is one that the store keeps, unless it is built to break it (faults_on.go).
type rule string

const (
	ruleSyncBeforeAck rule = "sync before ack" // a write is acknowledged after it is synced
	ruleSegmentBefore rule = "segment before"  // a segment gets its name after the one before is synced
	ruleReadIndex     rule = "read index"      // a linearizable read waits for what the leader has committed
	ruleCompare       rule = "compare"         // a Txn whose compares do not hold runs Else
	ruleOnce          rule = "once"            // a forwarded write that is sent again is done once
)
