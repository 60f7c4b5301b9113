import { Text } from "./text";

// Scratch is what the messages of a call lie in. When a larger piece takes the smaller one's place, that stays: the call
// may still read it, and by doubling all of them together are smaller than the last.
let scratch: usize = 0;
let size: u32 = 0;
let used: u32 = 0;
let over: bool = false; // the call whose messages these are has returned

// The message that the last call returned.
export const answer: Text = new Text();

export function pintle_abi(): u32 {
  return (1 << 16) | 1;
}

export function pintle_alloc(n: u32): usize {
  if (over) {
    used = 0;
    over = false;
  }
  if (n > 0x3fffff00) return 0;
  n = (n + 7) & ~7;
  if (n > size - used) {
    size = max<u32>(max<u32>(n, 4096), size < 0x1fffffff ? size * 2 : 0x3fffff00);
    scratch = heap.alloc(size);
    used = 0;
  }
  const p = scratch + used;
  used += n;
  return p;
}

// done ends a call.
export function done(): void {
  over = true;
}

// finish ends a call with the answer.
export function finish(): u64 {
  over = true;
  return answer.length ? answer.slice() : 0;
}
