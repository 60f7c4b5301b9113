// Package guest runs WebAssembly modules that nobody trusts, in this process: counted, bounded and pooled.
//
// Four types to know. A [Runtime] compiles modules and keeps what it compiled, in memory or in a folder. A [Module]
// is one module with the host functions that it may call. A [Pool] keeps instances of it warm and lends one to each
// call ([Pool.Do]). An [Instance] is what a call works with: functions, memory, and what the call may still spend.
//
// What holds, whatever the guest does:
//   - It runs at most Limits.Fuel instructions a call. The module is rewritten when it is compiled, so that it counts
//     for itself (see internal/meter); nothing watches it, and nothing has to stop it from outside.
//   - Its memory, its tables, its stack, what it says, and the calls it makes to the host are bounded.
//   - It reaches nothing but the host functions that it was given. WASI is there, so that languages' start-up code
//     runs, and does nothing: no files, no arguments, no environment, a clock that stands still, one fixed
//     sequence of random numbers. Output goes to the log.
//   - An instance that failed is thrown away. A warm instance that failed is tried once more as a fresh one, so that
//     what a request does never depends on the requests before it.
//   - The same module and the same request spend the same fuel and give the same answer.
//
// All types are safe for concurrent use, except an [Instance], which belongs to one call. The package starts no
// goroutines, but for one while a module compiles.
//
// What does not hold: a guest that is computing can't be stopped before its fuel is spent (fuel is the limit, and
// a host function sees its context end); and a module is compiled to machine code by wazero, whose bugs are ours.
package guest
