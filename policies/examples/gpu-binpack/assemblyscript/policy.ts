// Pods that ask for GPUs go where they leave the fewest free; the others keep off nodes with GPUs. See ../README.md.
import {
  Slice, json, Text, Needs, Column, Node, Nodes, is, len, keep, readSettings, readPod, readNodes,
} from "../../../sdk/assemblyscript/assembly";

export { pintle_abi, pintle_alloc, pintle_region } from "../../../sdk/assemblyscript/assembly";

let resource: Slice = 0;
let column: bool = false; // the resource is none of the record's own
const reason: Text = new Text();

export function pintle_configure(p: usize, n: u32): u64 {
  const settings = readSettings(p, n);
  const needs = new Needs();
  const usual = new Text();
  usual.addText("nvidia.com/gpu");
  resource = usual.slice();
  for (let m = json.first(settings.json); m; m = json.next(m)) {
    if (!is(json.key(m), "resource")) {
      needs.error.addText('settings: unknown field "');
      needs.error.add(json.key(m));
      needs.error.addText('"');
      break;
    }
    const name = json.text(json.member(m));
    if (!len(name)) {
      needs.error.addText("settings.resource: want the name of a resource");
      break;
    }
    resource = keep(name);
    column = !is(name, "nvidia.com/gpu");
  }
  if (column) {
    needs.column(Column.Allocatable, resource);
    needs.column(Column.Requested, resource);
  }
  reason.addText("too few free ");
  reason.add(resource);
  return needs.answer();
}

export function pintle_place(p: usize, n: u32): u64 {
  const want = readPod(p, n).requested(resource);
  const nodes = readNodes();
  const full = want > 0 ? nodes.reason(reason) : 0;
  if (column) fill(nodes, want, full, false, true);
  else if (nodes.inARow()) fill(nodes, want, full, true, false);
  else fill(nodes, want, full, false, false);
  return nodes.answer();
}

// fill is inlined with constants, and keeps the table's addresses in locals: what the loop needs fits into registers.
// @ts-ignore: decorator
@inline
function fill(nodes: Nodes, want: i64, full: u32, inARow: bool, columns: bool): void {
  const records = nodes.records;
  const stride = nodes.stride;
  const verdicts = nodes.verdicts;
  const scores = nodes.scores;
  const rows = nodes.rows;
  const end = nodes.length << 2;
  let next = inARow ? changetype<usize>(nodes.node(0)) : 0;
  for (let i: usize = 0; i < end; i += 4) {
    const node = inARow ? next : records + <usize>load<u32>(rows + i) * stride;
    next += stride;
    // The one that is further from the node goes first: whoever may read there may read what is before it.
    const used = (columns ? load<i64>(node, 136) : changetype<Node>(node).gpuRequested) + want;
    const have = columns ? load<i64>(node, 128) : changetype<Node>(node).gpu;
    if (want <= 0) store<i32>(scores + i, have ? 0 : 100);
    else if (used > have) store<u32>(verdicts + i, full);
    else store<i32>(scores + i, <i32>((<u64>used * 100) / <u64>have));
  }
}
