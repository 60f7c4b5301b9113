//go:build raftstore_broken

package raftstore

import "os"

// A store that is built with the tag raftstore_broken breaks the rule that RAFTSTORE_BROKEN names. It
// exists so that tests can prove that they would notice; nobody else builds it.
func broken(r rule) bool { return os.Getenv("RAFTSTORE_BROKEN") == string(r) }
