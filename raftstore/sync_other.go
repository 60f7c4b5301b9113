//go:build !linux

package raftstore

import "os"

func syncData(f *os.File) error { return f.Sync() }
