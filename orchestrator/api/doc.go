// Package api holds the kinds that Pintle serves: their names, defaults, validation, update rules,
// field selectors and kubectl columns, one file per kind.
//
// [All] returns them, [ByGVR] and [ByGVK] find one, [Scheme] knows the Go types of everything that
// crosses the wire. The types themselves are those of k8s.io/api.
//
// Every function here is pure and may be called from any goroutine: it looks at no clock and keeps no
// state. Defaulting and preparing change the object that they are given; nothing else changes anything.
// None of them panics on an object that decoded, however odd it is.
//
// The rule of validation: a field that is accepted is honoured by some part of Pintle. One that is not
// is refused with an error that names it; none is ignored in silence. fieldtable_test.go says of every
// field of every kind which it is, and a test holds the code against it.
package api
