// Slice is bytes that lie somewhere: the address above, the length below. 0 is none, which isn't the empty slice.
export type Slice = u64;

// @ts-ignore: decorator
@inline
export function slice(at: usize, len: u32): Slice {
  return ((<u64>at) << 32) | len;
}

// @ts-ignore: decorator
@inline
export function at(s: Slice): usize {
  return <usize>(s >>> 32);
}

// @ts-ignore: decorator
@inline
export function len(s: Slice): u32 {
  return <u32>s;
}

export function equal(a: Slice, b: Slice): bool {
  const n = len(a);
  if (n != len(b)) return false;
  const p = at(a);
  const q = at(b);
  for (let i: u32 = 0; i < n; i++) {
    if (load<u8>(p + i) != load<u8>(q + i)) return false;
  }
  return true;
}

// is compares with a string of ASCII.
export function is(s: Slice, text: string): bool {
  return len(s) == <u32>text.length && starts(s, text);
}

// starts says whether a slice begins with a string of ASCII.
export function starts(s: Slice, text: string): bool {
  const n = <u32>text.length;
  if (len(s) < n) return false;
  const p = at(s);
  const q = changetype<usize>(text);
  for (let i: u32 = 0; i < n; i++) {
    if (<u16>load<u8>(p + i) != load<u16>(q + (i << 1))) return false;
  }
  return true;
}

// has finds a character of ASCII.
export function has(s: Slice, char: u8): bool {
  const p = at(s);
  for (let i: u32 = 0; i < len(s); i++) {
    if (load<u8>(p + i) == char) return true;
  }
  return false;
}

// keep copies what must outlast the call. It is never freed: it is for settings.
export function keep(s: Slice): Slice {
  const p = heap.alloc(len(s));
  memory.copy(p, at(s), len(s));
  return slice(p, len(s));
}
