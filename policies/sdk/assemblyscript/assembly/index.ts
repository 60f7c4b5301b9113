// Policies for Pintle in AssemblyScript: ABI pintle/v1.
//
//   asc policy.ts -O3 --runtime stub --use abort= --exportStart _initialize -o policy.wasm
//
// A policy exports the calls that it takes part in, and what every policy exports:
//
//   export { pintle_abi, pintle_alloc } from "pintle-policy/assembly";
//   export function pintle_configure(at: usize, len: u32): u64 { const s = readSettings(at, len); …; return needs.answer(); }
//   export function pintle_admit(at: usize, len: u32): u64 { const r = readRequest(at, len); …; return response.answer(); }
//
// Strings of a message are slices: where they lie, and their length, in one number. They are void when the call returns;
// keep copies one. Nothing here allocates managed objects during a call, so the smallest runtime does (--runtime stub,
// which never frees). A policy that makes strings or arrays of its own takes --runtime incremental instead.
export * from "./slice";
export * from "./text";
export { pintle_abi, pintle_alloc } from "./memory";
export { Pairs } from "./wire";
export * from "./json";
export * from "./host";
export * from "./settings";
export * from "./admission";
export * from "./scheduling";
export * from "./nodes";
