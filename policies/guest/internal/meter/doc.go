// Package meter rewrites WebAssembly modules so that they count what they execute and stop by themselves. It is pure:
// bytes in, bytes out.
//
// A rewritten module has a mutable i64 global, the fuel, exported as [FuelExport]. Its code takes from it what it is about
// to execute and traps (unreachable) when the fuel is below zero: at the entry of every function that calls, at every
// loop header, and before everything whose cost depends on a length. See cost.go for the prices and plan.go for the
// places. Functions that may recurse take from the same global what they need of the stack, and give it back when
// they return.
//
// Beside that a rewritten module behaves as the original. Indices of functions, globals, locals, types and labels
// stay; whatever is added comes last in its index space, and an original that refers to an index which it doesn't have
// is refused, since it would reach what is added. What is imported as a memory becomes a memory of the module's own.
// The start function isn't started but exported, as [StartExport], because fuel must be set first.
//
// The parser is strict where wazero's isn't, because a length that lies would let the two read different
// programs, or let wazero allocate what the bytes can't fill.
package meter
