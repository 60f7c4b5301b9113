//! The pod that is being placed, and the hooks beside placing it: queue order, permit and post-filter.

use crate::memory::{List, Text};
use crate::settings::Policy;
use crate::wire::{part, put_bytes, put_number, put_string, Message, Pairs};

/// Pod is the pod that is being placed.
pub struct Pod<'a> {
    pub uid: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub labels: Pairs<'a>,
    pub annotations: Pairs<'a>,
    pub node_selector: Pairs<'a>,
    pub priority: i32,
    pub priority_class: &'a str,
    pub scheduler_name: &'a str,
    pub service_account: &'a str,
    pub owner_kind: &'a str,
    pub owner_name: &'a str,
    pub created_ms: i64,
    message: &'a [u8],
}

impl<'a> Pod<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        let pairs = |field| Pairs { message, field };
        let mut p = Pod {
            uid: "",
            namespace: "",
            name: "",
            labels: pairs(4),
            annotations: pairs(5),
            node_selector: pairs(11),
            priority: 0,
            priority_class: "",
            scheduler_name: "",
            service_account: "",
            owner_kind: "",
            owner_name: "",
            created_ms: 0,
            message,
        };
        for f in Message(message) {
            match f.number {
                1 => p.uid = f.text(),
                2 => p.namespace = f.text(),
                3 => p.name = f.text(),
                6 => p.priority = f.value as i32,
                7 => p.priority_class = f.text(),
                8 => p.scheduler_name = f.text(),
                9 => p.service_account = f.text(),
                12 => p.owner_kind = f.text(),
                13 => p.owner_name = f.text(),
                15 => p.created_ms = f.value as i64,
                _ => {}
            }
        }
        p
    }

    /// requested is what the pod asks of a resource, in thousandths of its unit.
    pub fn requested(&self, resource: &str) -> i64 {
        for quantity in Message(self.message).filter(|f| f.number == 10) {
            let (mut name, mut milli): (&[u8], i64) = (&[], 0);
            for f in Message(quantity.bytes) {
                match f.number {
                    1 => name = f.bytes,
                    2 => milli = f.value as i64,
                    _ => {}
                }
            }
            if name == resource.as_bytes() {
                return milli;
            }
        }
        0
    }

    /// images walks the images of the pod's containers.
    pub fn images(&self) -> impl Iterator<Item = &'a str> {
        Message(self.message).filter(|f| f.number == 14).map(|f| f.text())
    }
}

/// QueueKey is a policy that orders the queue: smaller goes first, equals by priority and age.
pub trait QueueKey: Policy {
    fn queue_key(&mut self, pod: &Pod<'_>) -> i64;
}

/// Permit is a policy that is asked when a node is chosen and nothing is bound yet.
pub trait Permit: Policy {
    fn permit(&mut self, request: &PermitRequest<'_>, response: &mut PermitResponse);
}

pub struct PermitRequest<'a> {
    pub pod: Pod<'a>,
    pub node: &'a str,
    message: &'a [u8],
}

impl<'a> PermitRequest<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        let mut r = PermitRequest { pod: Pod::of(&[]), node: "", message };
        for f in Message(message) {
            match f.number {
                1 => r.pod = Pod::of(f.bytes),
                2 => r.node = f.text(),
                _ => {}
            }
        }
        r
    }

    /// waiting walks the pods that this policy told to wait, and which do.
    pub fn waiting(&self) -> impl Iterator<Item = Pod<'a>> {
        Message(self.message)
            .filter(|f| f.number == 3)
            .map(|f| Pod::of(part(f.bytes, 1)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow = 0,
    Wait = 1,
    Deny = 2,
}

/// PermitResponse allows, unless it says otherwise.
pub struct PermitResponse {
    pub decision: Decision,
    pub timeout_ms: i64, // of Wait: the pod is refused after it
    pub reason: Text,
    pub allow: List<Text>,  // uids of waiting pods that wait no longer
    pub reject: List<Text>, // uids of waiting pods that are refused now
}

impl PermitResponse {
    pub(crate) fn new() -> Self {
        PermitResponse { decision: Decision::Allow, timeout_ms: 0, reason: Text::new(), allow: List::new(), reject: List::new() }
    }

    pub(crate) fn write(&self, to: &mut List<u8>) {
        put_number(to, 1, self.decision as u64);
        put_number(to, 2, self.timeout_ms as u64);
        put_string(to, 3, &self.reason);
        for (field, uids) in [(4, &self.allow), (5, &self.reject)] {
            for uid in uids.iter() {
                put_bytes(to, field, uid.as_bytes());
            }
        }
    }
}

/// PostFilter is a policy that is asked when no node is left.
pub trait PostFilter: Policy {
    fn post_filter(&mut self, request: &PostFilterRequest<'_>, response: &mut PostFilterResponse);
}

pub struct PostFilterRequest<'a> {
    pub pod: Pod<'a>,
    message: &'a [u8],
}

impl<'a> PostFilterRequest<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        PostFilterRequest { pod: Pod::of(part(message, 1)), message }
    }

    /// reasons walks why nodes were refused and how many, most frequent first.
    pub fn reasons(&self) -> impl Iterator<Item = (&'a str, u32)> {
        Message(self.message).filter(|f| f.number == 2).map(|f| {
            let (mut reason, mut nodes) = ("", 0);
            for f in Message(f.bytes) {
                match f.number {
                    1 => reason = f.text(),
                    2 => nodes = f.value as u32,
                    _ => {}
                }
            }
            (reason, nodes)
        })
    }
}

pub struct PostFilterResponse {
    pub message: Text,  // added to the pod's event
    pub nominate: Text, // node to wait for; empty: none
}

impl PostFilterResponse {
    pub(crate) fn new() -> Self {
        PostFilterResponse { message: Text::new(), nominate: Text::new() }
    }

    pub(crate) fn write(&self, to: &mut List<u8>) {
        put_string(to, 1, &self.message);
        put_string(to, 2, &self.nominate);
    }
}
