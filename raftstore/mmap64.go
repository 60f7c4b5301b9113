//go:build amd64 || arm64 || ppc64le || riscv64 || s390x || loong64 || mips64le

package raftstore

const initialMmap = 1 << 35
