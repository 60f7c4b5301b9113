//! The node table, where it lies.

use crate::memory::List;
use crate::scheduling::Pod;
use crate::settings::Policy;
use crate::wire::put_bytes;
use core::slice::{from_raw_parts, from_raw_parts_mut};

/// Place is a policy that filters and scores the candidates for a pod.
pub trait Place: Policy {
    fn place(&mut self, pod: &Pod<'_>, nodes: &mut Nodes<'_>);
}

/// Node is a node's record. Strings are ids; 0 is the empty string.
#[repr(C)]
pub struct Node {
    pub name: u32,
    pub flags: u32, // 1 gone, 2 unschedulable, 4 not ready
    pub cpu: i64,   // thousandths of a core
    pub cpu_requested: i64,
    pub memory: i64, // bytes
    pub memory_requested: i64,
    pub storage: i64, // ephemeral, bytes
    pub storage_requested: i64,
    pub gpu: i64, // thousandths of a GPU
    pub gpu_requested: i64,
    pub pods: u32,
    pub pods_there: u32,
    labels: u32,
    label_count: u32,
    taints: u32,
    taint_count: u32,
    quantities: u32,
    quantity_count: u32,
    pub zone: u32,
    pub region: u32,
    pub host_name: u32,
    zero: u32,
    pub created_ms: i64,
}

const _: () = assert!(core::mem::size_of::<Node>() == 128);

/// COLUMNS is how many the policy asked for.
pub(crate) static mut COLUMNS: usize = 0;

impl Node {
    #[inline(always)]
    fn column(&self, nth: usize) -> *const u8 {
        if nth >= unsafe { COLUMNS } {
            panic!()
        }
        unsafe { (self as *const Node as *const u8).add(128 + 8 * nth) }
    }

    /// label is the nth column, a `Column::Label`: the id of the label's value, 0 without the label.
    #[inline(always)]
    pub fn label(&self, nth: usize) -> u32 {
        unsafe { *(self.column(nth) as *const u32) }
    }

    /// number is the nth column, a `Column::LabelNumber`; NaN where the label is no number.
    #[inline(always)]
    pub fn number(&self, nth: usize) -> f64 {
        unsafe { *(self.column(nth) as *const f64) }
    }

    /// quantity is the nth column, a `Column::Allocatable` or `Column::Requested`, in thousandths.
    #[inline(always)]
    pub fn quantity(&self, nth: usize) -> i64 {
        unsafe { *(self.column(nth) as *const i64) }
    }
}

#[repr(C)]
struct Header {
    version: u32,
    stride: u32,
    records: u32,
    candidates: u32,
    nodes: usize,
    pairs: usize,
    strings: usize,
    bytes: usize,
    rows: usize,
    verdicts: usize,
    scores: usize,
    quantities: usize,
    string_count: u32,
}

/// Nodes is the table. A candidate passes with verdict 0 and is refused with one that `reason` returned; scores go from 0
/// to 100, best.
pub struct Nodes<'a> {
    header: &'a Header,
    rows: &'a [u32],
    pub verdicts: &'a mut [u32],
    pub scores: &'a mut [i32],
    reasons: List<u8>,
    reason_count: u32,
}

impl<'a> Nodes<'a> {
    /// of takes the address of the header that the host wrote.
    pub(crate) unsafe fn of(header: *const u8, reasons: List<u8>) -> Self {
        let header = &*(header as *const Header);
        let n = header.candidates as usize;
        if n == 0 {
            return Nodes { header, rows: &[], verdicts: &mut [], scores: &mut [], reasons, reason_count: 0 };
        }
        Nodes {
            header,
            rows: from_raw_parts(header.rows as *const u32, n),
            verdicts: from_raw_parts_mut(header.verdicts as *mut u32, n),
            scores: from_raw_parts_mut(header.scores as *mut i32, n),
            reasons,
            reason_count: 0,
        }
    }

    pub(crate) fn into_reasons(self) -> List<u8> {
        self.reasons
    }

    /// len is the number of candidates.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// node is the record of a candidate.
    #[inline(always)]
    pub fn node(&self, candidate: usize) -> &'a Node {
        unsafe { &*((self.header.nodes + self.rows[candidate] as usize * self.header.stride as usize) as *const Node) }
    }

    /// string is the string with an id.
    pub fn string(&self, id: u32) -> &'a str {
        if id >= self.header.string_count {
            return "";
        }
        unsafe {
            let at = *(self.header.strings as *const (u32, u32)).add(id as usize);
            core::str::from_utf8(from_raw_parts(at.0 as usize as *const u8, at.1 as usize)).unwrap_or("")
        }
    }

    fn pairs(&self, first: u32, n: u32) -> &'a [(u32, u32)] {
        if n == 0 {
            return &[];
        }
        unsafe { from_raw_parts((self.header.pairs as *const (u32, u32)).add(first as usize), n as usize) }
    }

    /// each calls a function with every candidate's record, verdict and score. It is the quickest way through the table.
    #[inline(always)]
    pub fn each(&mut self, mut f: impl FnMut(&'a Node, &mut u32, &mut i32)) {
        let (nodes, stride, n) = (self.header.nodes, self.header.stride as usize, self.rows.len());
        // All three have n values; an index for all of them keeps fewer of them alive than an iterator for each.
        let (rows, verdicts, scores) = (self.rows.as_ptr(), self.verdicts.as_mut_ptr(), self.scores.as_mut_ptr());
        if n > 0 && (self.rows[n - 1] - self.rows[0]) as usize == n - 1 {
            // Rows ascend, so none is left out: the records follow each other.
            let mut at = nodes + self.rows[0] as usize * stride;
            for i in 0..n {
                unsafe { f(&*(at as *const Node), &mut *verdicts.add(i), &mut *scores.add(i)) }
                at += stride;
            }
            return;
        }
        for i in 0..n {
            unsafe {
                let at = nodes + *rows.add(i) as usize * stride;
                f(&*(at as *const Node), &mut *verdicts.add(i), &mut *scores.add(i))
            }
        }
    }

    /// labels are a node's labels as ids, sorted by the key's. A column is quicker than a search.
    pub fn labels(&self, node: &Node) -> &'a [(u32, u32)] {
        self.pairs(node.labels, node.label_count)
    }

    /// taints are a node's taints, two pairs each: (key, value), (effect, 0).
    pub fn taints(&self, node: &Node) -> &'a [(u32, u32)] {
        self.pairs(node.taints, 2 * node.taint_count)
    }

    /// reason says why nodes are refused, worded to follow a count of nodes. It returns the verdict that means it.
    pub fn reason(&mut self, reason: &str) -> u32 {
        put_bytes(&mut self.reasons, 1, reason.as_bytes());
        self.reason_count += 1;
        self.reason_count
    }
}
