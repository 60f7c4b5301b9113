// Package examples is a folder of policies that are there to be used and to be read: README.md lists them. Its tests run
// each of them, in each language that it is written in, on the same cases.
package examples
