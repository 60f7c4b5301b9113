//! Pods that ask for GPUs go where they leave the fewest free; the others keep off nodes with GPUs. See ../README.md.
#![no_std]

use pintle::{text, Column, Needs, Nodes, Pod, Settings, Text};

struct Binpack {
    resource: Text,
    column: bool, // the resource is none of the record's own
}

impl pintle::Policy for Binpack {
    fn configure(settings: &Settings, needs: &mut Needs) -> Result<Self, Text> {
        let mut resource = Text::from("nvidia.com/gpu");
        for (key, value) in settings.json.members() {
            if key != "resource" {
                return Err(text(&["settings: unknown field \"", key, "\""]));
            }
            let name = value.string().filter(|s| !s.is_empty());
            resource = name.ok_or("settings.resource: want the name of a resource")?.into();
        }
        let column = &*resource != "nvidia.com/gpu";
        if column {
            needs.column(Column::Allocatable, &resource);
            needs.column(Column::Requested, &resource);
        }
        Ok(Binpack { resource, column })
    }
}

impl pintle::Place for Binpack {
    fn place(&mut self, pod: &Pod, nodes: &mut Nodes) {
        let want = pod.requested(&self.resource);
        let full = if want > 0 { nodes.reason(&text(&["too few free ", &self.resource])) } else { 0 };
        if self.column {
            nodes.each(|n, verdict, score| fill(n.quantity(1), n.quantity(0), want, full, verdict, score));
        } else {
            nodes.each(|n, verdict, score| fill(n.gpu_requested, n.gpu, want, full, verdict, score));
        }
    }
}

#[inline(always)]
fn fill(used: i64, have: i64, want: i64, full: u32, verdict: &mut u32, score: &mut i32) {
    let used = used.wrapping_add(want);
    if want <= 0 {
        *score = if have != 0 { 0 } else { 100 };
    } else if used > have {
        *verdict = full;
    } else {
        *score = ((used as u64).wrapping_mul(100) / have as u64) as i32;
    }
}

pintle::export!(Binpack: Place);
