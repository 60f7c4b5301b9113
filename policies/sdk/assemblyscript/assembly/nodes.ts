import { Slice } from "./slice";
import { Text } from "./text";
import { answer, finish } from "./memory";

// Node is a node's record, where it lies. Strings are ids; 0 is the empty string.
@unmanaged
export class Node {
  name: u32;
  flags: u32; // 1 gone, 2 unschedulable, 4 not ready
  cpu: i64; // thousandths of a core
  cpuRequested: i64;
  memory: i64; // bytes
  memoryRequested: i64;
  storage: i64; // ephemeral, bytes
  storageRequested: i64;
  gpu: i64; // thousandths of a GPU
  gpuRequested: i64;
  pods: u32;
  podsThere: u32;
  labels: u32; // first pair
  labelCount: u32;
  taints: u32; // first pair; two each: (key, value), (effect, 0)
  taintCount: u32;
  quantities: u32;
  quantityCount: u32;
  zone: u32;
  region: u32;
  hostName: u32;
  zero: u32;
  createdMs: i64;

  // The column that the policy asked for nth: a string's id, a number, or a quantity in thousandths.
  label(nth: u32): u32 {
    return load<u32>(changetype<usize>(this) + 128 + 8 * nth);
  }

  number(nth: u32): f64 {
    return load<f64>(changetype<usize>(this) + 128 + 8 * nth);
  }

  quantity(nth: u32): i64 {
    return load<i64>(changetype<usize>(this) + 128 + 8 * nth);
  }
}

const REGIONS: u32 = 9;
const regions: usize = memory.data(8 * REGIONS); // (address, size) by kind

export function pintle_region(kind: u32, size: u32): usize {
  if (kind >= REGIONS || size > 0x3fffff00) return 0;
  const entry = regions + 8 * kind;
  const have = load<u32>(entry + 4);
  if (have && size <= have) return load<u32>(entry);
  size = max<u32>(max<u32>(size, 64), have < 0x1fffffff ? 2 * have : 0); // doubled: the smaller ones are left behind
  let p = heap.alloc(size + 56);
  if (kind == 1) p += (8 - p) & 56; // records: a pair of amounts shares a line of the cache
  store<u32>(entry, <u32>p);
  store<u32>(entry + 4, size);
  return p;
}

// Nodes is the node table of a call. A candidate passes with verdict 0 and is refused with one that reason returned;
// scores go from 0 to 100, best.
export class Nodes {
  length: u32 = 0; // candidates
  // Addresses, for loops that keep them in locals: record i is at records + load<u32>(rows + 4 * i) * stride, its verdict
  // (u32) at verdicts + 4 * i, its score (i32) at scores + 4 * i. node, refuse and score do the same, and load them each time.
  stride: usize = 0;
  records: usize = 0;
  rows: usize = 0;
  verdicts: usize = 0;
  scores: usize = 0;
  private strings: usize = 0;
  private stringCount: u32 = 0;
  private reasons: u32 = 0;

  open(): void {
    const header = <usize>load<u32>(regions);
    if (!header) unreachable();
    this.stride = load<u32>(header, 4);
    this.length = load<u32>(header, 12);
    this.records = load<u32>(header, 16);
    this.strings = load<u32>(header, 24);
    this.rows = load<u32>(header, 32);
    this.verdicts = load<u32>(header, 36);
    this.scores = load<u32>(header, 40);
    this.stringCount = load<u32>(header, 48);
    this.reasons = 0;
    answer.clear();
  }

  // inARow says that the candidates' records follow each other, which is what they do when all nodes are asked about. A loop
  // that knows it is a third quicker.
  inARow(): bool {
    const n = this.length;
    return n > 0 && load<u32>(this.rows + 4 * (n - 1)) - load<u32>(this.rows) == n - 1;
  }

  // node is a candidate's record.
  // @ts-ignore: decorator
  @inline
  node(candidate: u32): Node {
    return changetype<Node>(this.records + <usize>load<u32>(this.rows + 4 * candidate) * this.stride);
  }

  // @ts-ignore: decorator
  @inline
  refuse(candidate: u32, verdict: u32): void {
    store<u32>(this.verdicts + 4 * candidate, verdict);
  }

  // @ts-ignore: decorator
  @inline
  score(candidate: u32, score: i32): void {
    store<i32>(this.scores + 4 * candidate, score);
  }

  // string is the string with an id.
  string(id: u32): Slice {
    if (id >= this.stringCount) return 0;
    const p = this.strings + 8 * id;
    return ((<u64>load<u32>(p)) << 32) | load<u32>(p, 4);
  }

  // reason says why nodes are refused, worded to follow a count of nodes. It returns the verdict that means it.
  reason(reason: Text): u32 {
    answer.putBytes(1, reason.slice());
    return ++this.reasons;
  }

  answer(): u64 {
    return finish();
  }
}

const nodes: Nodes = new Nodes();

// readNodes comes behind readPod in pintle_place; the last line is `return nodes.answer()`.
export function readNodes(): Nodes {
  nodes.open();
  return nodes;
}
