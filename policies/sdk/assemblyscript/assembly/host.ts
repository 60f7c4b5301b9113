import { Slice, at, len } from "./slice";
import { Json, json } from "./json";

// @ts-ignore: decorator
@external("pintle", "intern")
declare function hostIntern(p: usize, n: u32): u32;
// @ts-ignore: decorator
@external("pintle", "log")
declare function hostLog(level: u32, p: usize, n: u32): void;
// @ts-ignore: decorator
@external("pintle", "now_ms")
declare function hostNow(): i64;
// @ts-ignore: decorator
@external("pintle", "lookup")
declare function hostLookup(p: usize, n: u32): u64;

export enum Level {
  Debug,
  Info,
  Warn,
  Error,
}

// intern returns the id that node records have for a string.
export function intern(s: Slice): u32 {
  return hostIntern(at(s), len(s));
}

// log writes a line to the host's log.
export function log(level: Level, line: Slice): void {
  hostLog(<u32>level, at(line), len(line));
}

// nowMs is Unix time in milliseconds, the same throughout a call. It needs the capability "clock"; 0 without it.
export function nowMs(): i64 {
  return hostNow();
}

// lookup reads a cluster object, named group/version/resource/namespace/name, or with an empty name all of a namespace:
// {"items": […]}. It needs the capability "read:group/resource"; what isn't there is no value.
export function lookup(path: Slice): Json {
  return json.parse(hostLookup(at(path), len(path)));
}
