import { Slice, slice, at, len } from "./slice";

// Protobuf, read where it lies: next takes a field and returns where the one behind it is, 0 at the end. What it took:
export let field: u32 = 0;
export let value: u64 = 0; // of a number
export let bytes: Slice = 0; // of bytes, strings and messages

let past: usize = 0;

function varint(p: usize, end: usize): u64 {
  let v: u64 = 0;
  for (let shift: u64 = 0; shift < 64; shift += 7) {
    if (p >= end) unreachable();
    const c = load<u8>(p++);
    v |= (<u64>(c & 0x7f)) << shift;
    if (c < 0x80) {
      past = p;
      return v;
    }
  }
  unreachable();
  return 0;
}

// next traps at what is no protobuf, as the ABI wants it.
export function next(p: usize, end: usize): usize {
  if (p >= end) return 0;
  const tag = varint(p, end);
  field = <u32>(tag >> 3);
  let n: u64 = 0;
  switch (<u32>tag & 7) {
    case 0:
      value = varint(past, end);
      bytes = 0;
      return past;
    case 2:
      n = varint(past, end);
      break;
    case 1: // of a later version: skipped
      n = 8;
      break;
    case 5:
      n = 4;
      break;
    default:
      unreachable();
  }
  if (n > <u64>(end - past)) unreachable();
  value = 0;
  bytes = slice(past, <u32>n);
  return past + <usize>n;
}

// part is a message's last field of this number that has a length; otherwise what is given.
export function part(message: Slice, number: u32, otherwise: Slice = 0): Slice {
  const end = at(message) + len(message);
  let last = otherwise;
  for (let p = next(at(message), end); p; p = next(p, end)) {
    if (field == number) last = bytes;
  }
  return last;
}

// Pairs are labels, annotations or a selector: the fields of this number in a message.
@unmanaged
export class Pairs {
  message: Slice;
  number: u32;

  // get is the value of a key; 0: it isn't there.
  get(key: Slice): Slice {
    const end = at(this.message) + len(this.message);
    for (let p = next(at(this.message), end); p; p = next(p, end)) {
      if (field != this.number) continue;
      const pair = bytes;
      const pairEnd = at(pair) + len(pair);
      let k: Slice = slice(at(pair), 0);
      let v: Slice = k;
      for (let q = next(at(pair), pairEnd); q; q = next(q, pairEnd)) {
        if (field == 1) k = bytes;
        else if (field == 2) v = bytes;
      }
      if (len(k) == len(key)) {
        let i: u32 = 0;
        while (i < len(k) && load<u8>(at(k) + i) == load<u8>(at(key) + i)) i++;
        if (i == len(k)) return v;
      }
    }
    return 0;
  }
}

export function pairs(): Pairs {
  const p = heap.alloc(offsetof<Pairs>());
  memory.fill(p, 0, offsetof<Pairs>());
  return changetype<Pairs>(p);
}
