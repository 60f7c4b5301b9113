//go:build !unix

package raftstore

import "os"

// lockFile leaves it to the state file, which bbolt locks, to keep others out.
func lockFile(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }
