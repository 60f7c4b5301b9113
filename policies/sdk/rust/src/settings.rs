//! What a policy is told and what it asks for when it starts.

use crate::json::Json;
use crate::memory::{List, Text};
use crate::wire::{put_bytes, put_number, put_string, Message};

/// Policy is what every policy can: take its settings. An error refuses them, and says why.
pub trait Policy: Sized {
    fn configure(settings: &Settings<'_>, needs: &mut Needs) -> Result<Self, Text>;
}

/// Settings is what the policy object gives.
pub struct Settings<'a> {
    pub json: Json<'a>, // no value: the policy has no settings
    pub policy: &'a str, // name of the policy object
    message: &'a [u8],
}

impl<'a> Settings<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        let mut s = Settings { json: Json::of(&[]), policy: "", message };
        for f in Message(message) {
            match f.number {
                2 => s.json = Json::of(f.bytes),
                3 => s.policy = f.text(),
                _ => {}
            }
        }
        s
    }

    /// granted says whether the policy object grants a capability.
    pub fn granted(&self, capability: &str) -> bool {
        Message(self.message).any(|f| f.number == 4 && f.bytes == capability.as_bytes())
    }
}

/// Wants is how object and old object are encoded.
#[derive(Clone, Copy)]
pub enum Wants {
    Json = 0,
    Nothing = 1, // meta and old_meta say enough; costs the host nothing
    Protobuf = 2,
}

/// Column is eight bytes at the end of each node record.
#[derive(Clone, Copy)]
pub enum Column {
    Label = 0,
    LabelNumber = 1,
    Allocatable = 2,
    Requested = 3,
}

/// Needs is what the policy asks of the host.
pub struct Needs {
    pub wants: Wants,
    pub(crate) count: usize,
    columns: List<u8>,
}

impl Needs {
    pub(crate) fn new() -> Self {
        Needs { wants: Wants::Json, count: 0, columns: List::new() }
    }

    /// column asks for a column, in the order of the calls; name is the label's or the resource's.
    pub fn column(&mut self, kind: Column, name: &str) {
        let mut column = List::new();
        put_number(&mut column, 1, kind as u64);
        put_string(&mut column, 2, name);
        put_bytes(&mut self.columns, 3, &column);
        self.count += 1;
    }

    pub(crate) fn write(&self, to: &mut List<u8>) {
        put_number(to, 2, self.wants as u64);
        to.extend(&self.columns);
    }
}
