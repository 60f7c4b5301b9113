// Package upgrade brings a cluster of whole appliances, each a process of its own, from one version of the program to
// the next, one after the other, while clients read and write.
//
// This version is the test binary itself. The next is the same source with the tag raftstore_next: what it writes into
// the store, once every member has it, this version can't read.
package upgrade
