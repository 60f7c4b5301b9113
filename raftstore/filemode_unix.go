//go:build unix

package raftstore

// checkMode says whether a file's mode tells who may read it.
const checkMode = true
