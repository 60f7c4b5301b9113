// Package storeload is the load that the tables store and cluster put on every store alike. A subject
// is a process of its own that calls Serve; the bench tells it line by line what to do, so that each
// cell is measured on all subjects right after one another. The module has no requirements: those of
// one subject must change nothing of another.
package storeload
