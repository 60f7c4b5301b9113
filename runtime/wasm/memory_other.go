//go:build !unix

package wasm

func reserve(uint64) []byte { return nil }

func discard([]byte) {}

func unreserve([]byte) {}
