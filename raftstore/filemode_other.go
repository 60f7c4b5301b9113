//go:build !unix

package raftstore

const checkMode = false
