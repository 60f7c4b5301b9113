import { Slice, slice, at, len, is } from "./slice";
import { pintle_alloc } from "./memory";

// Json is a JSON value, read where it lies: where its text begins, and how much there is from there on. 0 is no value: what
// isn't there, or is no JSON. What lies in a value is looked at when it is asked for. The host's JSON is well formed; of
// other text nothing is said but that reading it stays within it.
export type Json = u64;

function space(p: usize, end: usize): usize {
  while (p < end) {
    const c = load<u8>(p);
    if (c != 32 && c != 10 && c != 9 && c != 13) break;
    p++;
  }
  return p;
}

// pastString is where the string that begins at p has ended.
function pastString(p: usize, end: usize): usize {
  for (p++; p < end; p++) {
    const c = load<u8>(p);
    if (c == 34) return p + 1;
    if (c == 92) p++;
  }
  return end;
}

function past(p: usize, end: usize): usize {
  if (p >= end) return p;
  let c = load<u8>(p);
  if (c == 34) return pastString(p, end);
  if (c == 123 || c == 91) {
    let depth: u32 = 0;
    while (p < end) {
      c = load<u8>(p);
      if (c == 34) {
        p = pastString(p, end);
        continue;
      }
      p++;
      if (c == 123 || c == 91) depth++;
      else if ((c == 125 || c == 93) && --depth == 0) return p;
    }
    return end;
  }
  while (p < end) {
    c = load<u8>(p);
    if (c <= 32 || c == 44 || c == 125 || c == 93) break;
    p++;
  }
  return p;
}

// @ts-ignore: decorator
@inline
function value(p: usize, end: usize): Json {
  return p < end ? slice(p, <u32>(end - p)) : 0;
}

// inside is a string's text, between its quotes.
function inside(p: usize, end: usize): Slice {
  return slice(p + 1, end > p + 2 ? <u32>(end - p - 2) : 0);
}

function hex4(p: usize, end: usize): u32 {
  let v: u32 = 0;
  for (let i = 0; i < 4; i++, p++) {
    if (p >= end) return 0xfffd;
    const c: u32 = load<u8>(p);
    const letter = c | 0x20;
    if (c >= 48 && c <= 57) v = (v << 4) | (c - 48);
    else if (letter >= 97 && letter <= 102) v = (v << 4) | (letter - 87);
    else return 0xfffd;
  }
  return v;
}

// unescape takes the text between two quotes. Without a backslash it is the string.
function unescape(s: Slice): Slice {
  let p = at(s);
  const end = p + len(s);
  let q = p;
  while (q < end && load<u8>(q) != 92) q++;
  if (q == end) return s;
  const to = pintle_alloc(len(s) + 4); // an escape that is cut off can be shorter than what it reads as
  if (!to) unreachable();
  let t = to;
  while (p < end) {
    let c: u32 = load<u8>(p++);
    if (c != 92 || p >= end) {
      store<u8>(t++, c);
      continue;
    }
    c = load<u8>(p++);
    switch (c) {
      case 110:
        c = 10;
        break;
      case 116:
        c = 9;
        break;
      case 114:
        c = 13;
        break;
      case 98:
        c = 8;
        break;
      case 102:
        c = 12;
        break;
      case 117: {
        c = hex4(p, end);
        p = min<usize>(p + 4, end);
        if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && load<u8>(p) == 92 && load<u8>(p + 1) == 117) {
          const low = hex4(p + 2, end);
          if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
          }
        }
        if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
      }
    }
    if (c < 0x80) store<u8>(t++, c);
    else if (c < 0x800) {
      store<u8>(t++, 0xc0 | (c >> 6));
      store<u8>(t++, 0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
      store<u8>(t++, 0xe0 | (c >> 12));
      store<u8>(t++, 0x80 | ((c >> 6) & 0x3f));
      store<u8>(t++, 0x80 | (c & 0x3f));
    } else {
      store<u8>(t++, 0xf0 | (c >> 18));
      store<u8>(t++, 0x80 | ((c >> 12) & 0x3f));
      store<u8>(t++, 0x80 | ((c >> 6) & 0x3f));
      store<u8>(t++, 0x80 | (c & 0x3f));
    }
  }
  return slice(to, <u32>(t - to));
}

export namespace json {
  // parse reads a text.
  export function parse(s: Slice): Json {
    const end = at(s) + len(s);
    return value(space(at(s), end), end);
  }

  // kind is the character '{', '[', '"', 't', 'f', 'n', '0' for a number, or 0 for no value.
  export function kind(v: Json): u8 {
    if (!v) return 0;
    const c = load<u8>(at(v));
    return c == 45 || (c >= 48 && c <= 57) ? 48 : c;
  }

  export function isObject(v: Json): bool {
    return kind(v) == 123;
  }

  export function isArray(v: Json): bool {
    return kind(v) == 91;
  }

  export function isTrue(v: Json): bool {
    return kind(v) == 116;
  }

  export function isFalse(v: Json): bool {
    return kind(v) == 102;
  }

  // raw is the text of a value.
  export function raw(v: Json): Slice {
    return slice(at(v), <u32>(past(at(v), at(v) + len(v)) - at(v)));
  }

  // text is the string that a value is; 0: it is none.
  export function text(v: Json): Slice {
    if (kind(v) != 34) return 0;
    return unescape(inside(at(v), pastString(at(v), at(v) + len(v))));
  }

  // int is the whole number that a value is; otherwise the fallback.
  export function int(v: Json, fallback: i64): i64 {
    if (kind(v) != 48) return fallback;
    const s = raw(v);
    const minus = load<u8>(at(s)) == 45;
    let i: u32 = minus ? 1 : 0;
    if (len(s) == i || len(s) - i > 18) return fallback;
    let n: i64 = 0;
    for (; i < len(s); i++) {
      const c = load<u8>(at(s) + i);
      if (c < 48 || c > 57) return fallback;
      n = n * 10 + (c - 48);
    }
    return minus ? -n : n;
  }

  // float is the number that a value is, written without an exponent; otherwise NaN.
  export function float(v: Json): f64 {
    if (kind(v) != 48) return NaN;
    const s = raw(v);
    const minus = load<u8>(at(s)) == 45;
    let n: f64 = 0;
    let unit: f64 = 1;
    let point = false;
    for (let i: u32 = minus ? 1 : 0; i < len(s); i++) {
      const c = load<u8>(at(s) + i);
      if (c == 46 && !point) point = true;
      else if (c < 48 || c > 57) return NaN;
      else {
        n = n * 10 + <f64>(c - 48);
        if (point) unit *= 10;
      }
    }
    return (minus ? -n : n) / unit;
  }

  // get is an object's member, or no value. A member that is null is none. The name is ASCII.
  export function get(v: Json, name: string): Json {
    if (!isObject(v)) return 0;
    const end = at(v) + len(v);
    let p = at(v) + 1;
    while (true) {
      p = space(p, end);
      if (p >= end || load<u8>(p) != 34) return 0;
      const key = p;
      const keyEnd = pastString(p, end);
      p = space(keyEnd, end);
      if (p >= end || load<u8>(p) != 58) return 0;
      p = space(p + 1, end);
      if (p >= end) return 0;
      if (is(unescape(inside(key, keyEnd)), name)) return load<u8>(p) == 110 ? 0 : value(p, end);
      p = space(past(p, end), end);
      if (p >= end || load<u8>(p) != 44) return 0;
      p++;
    }
  }

  // A walk: for (let e = json.first(array); e; e = json.next(e)). For an object each is a member: json.key, json.member.
  export function first(v: Json): Json {
    if (!isArray(v) && !isObject(v)) return 0;
    const end = at(v) + len(v);
    const p = space(at(v) + 1, end);
    return p < end && load<u8>(p) != 125 && load<u8>(p) != 93 ? value(p, end) : 0;
  }

  export function next(v: Json): Json {
    const end = at(v) + len(v);
    let p = past(at(v), end);
    if (p == at(v)) return 0;
    p = space(p, end);
    if (p < end && load<u8>(p) == 58) p = space(past(space(p + 1, end), end), end); // behind a member's value
    if (p >= end || load<u8>(p) != 44) return 0;
    return value(space(p + 1, end), end);
  }

  // key is the name of a member.
  export function key(v: Json): Slice {
    return text(v);
  }

  // member is its value.
  export function member(v: Json): Json {
    if (kind(v) != 34) return 0;
    const end = at(v) + len(v);
    const p = space(pastString(at(v), end), end);
    return p < end && load<u8>(p) == 58 ? value(space(p + 1, end), end) : 0;
  }

  // podTemplate is the pod that an object of a kind is or makes by its template, with its metadata and spec; 0: it makes none.
  export function podTemplate(kind: Slice, object: Json): Json {
    if (is(kind, "Pod")) return object;
    if (is(kind, "PodTemplate")) return get(object, "template");
    let spec = get(object, "spec");
    if (is(kind, "CronJob")) spec = get(get(spec, "jobTemplate"), "spec");
    return get(spec, "template");
  }
}
