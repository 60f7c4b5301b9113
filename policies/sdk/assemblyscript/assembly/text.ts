import { Slice, slice, at, len } from "./slice";

// Text is text that is put together, in room that is used again after clear.
export class Text {
  private p: usize = 0;
  private size: u32 = 0;
  length: u32 = 0;

  clear(): void {
    this.length = 0;
  }

  // room is where n more bytes can be written.
  room(n: u32): usize {
    if (n > this.size - this.length) {
      let size = <u64>max<u32>(this.size, 128) * 2;
      while (size < <u64>this.length + n) size *= 2;
      if (size > 0x7fffffff) unreachable();
      const p = heap.alloc(<usize>size);
      if (this.length) memory.copy(p, this.p, this.length);
      if (this.p) heap.free(this.p);
      this.p = p;
      this.size = <u32>size;
    }
    return this.p + this.length;
  }

  add(s: Slice): void {
    memory.copy(this.room(len(s)), at(s), len(s));
    this.length += len(s);
  }

  addText(s: string): void {
    const n = s.length;
    this.length += <u32>String.UTF8.encodeUnsafe(changetype<usize>(s), n, this.room(<u32>n * 3));
  }

  addNumber(v: i64): void {
    let u = v < 0 ? 0 - <u64>v : <u64>v;
    let digits: u32 = v < 0 ? 2 : 1;
    for (let rest = u / 10; rest; rest /= 10) digits++;
    let p = this.room(digits) + digits;
    this.length += digits;
    do {
      store<u8>(--p, 48 + <u8>(u % 10));
      u /= 10;
    } while (u);
    if (v < 0) store<u8>(--p, 45);
  }

  slice(): Slice {
    return slice(this.p, this.length);
  }

  // The rest writes protobuf.

  varint(v: u64): void {
    let p = this.room(10);
    let n: u32 = 1;
    while (v >= 0x80) {
      store<u8>(p++, <u8>(v | 0x80));
      v >>= 7;
      n++;
    }
    store<u8>(p, <u8>v);
    this.length += n;
  }

  putNumber(field: u32, v: u64): void {
    if (v == 0) return;
    this.varint(field << 3);
    this.varint(v);
  }

  putBytes(field: u32, s: Slice): void {
    this.varint((field << 3) | 2);
    this.varint(len(s));
    this.add(s);
  }

  putString(field: u32, s: Slice): void {
    if (len(s)) this.putBytes(field, s);
  }
}
