//! Admission: may this object be written so?

use crate::memory::{List, Text};
use crate::settings::Policy;
use crate::wire::{part, put_bytes, put_number, put_string, string, Message, Pairs};

/// Admit is a policy that admits objects.
pub trait Admit: Policy {
    fn admit(&mut self, request: &Request<'_>, response: &mut Response);
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Unknown,
    Create,
    Update,
    Delete,
    Connect,
}

/// Meta is an object's metadata, as far as labels and annotations.
#[derive(Clone, Copy)]
pub struct Meta<'a> {
    pub there: bool, // false: there is no such object
    pub labels: Pairs<'a>,
    pub annotations: Pairs<'a>,
}

impl<'a> Meta<'a> {
    fn of(message: &'a [u8], there: bool) -> Self {
        Meta { there, labels: Pairs { message, field: 3 }, annotations: Pairs { message, field: 4 } }
    }
}

/// Request is what is to be decided.
pub struct Request<'a> {
    pub uid: &'a str,
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub username: &'a str,
    pub dry_run: bool,
    pub meta: Meta<'a>,
    pub old_meta: Meta<'a>,
    pub object: &'a [u8], // as the policy wants it
    pub old_object: &'a [u8],
}

impl<'a> Request<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        let mut r = Request {
            uid: "",
            operation: Operation::Unknown,
            group: "",
            version: "",
            kind: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            username: "",
            dry_run: false,
            meta: Meta::of(&[], false),
            old_meta: Meta::of(&[], false),
            object: &[],
            old_object: &[],
        };
        for f in Message(message) {
            match f.number {
                1 => r.uid = f.text(),
                2 => {
                    r.operation = match f.value {
                        1 => Operation::Create,
                        2 => Operation::Update,
                        3 => Operation::Delete,
                        4 => Operation::Connect,
                        _ => Operation::Unknown,
                    }
                }
                3 => {
                    for f in Message(f.bytes) {
                        match f.number {
                            1 => r.group = f.text(),
                            2 => r.version = f.text(),
                            3 => r.kind = f.text(),
                            _ => {}
                        }
                    }
                }
                4 => r.resource = string(part(f.bytes, 3)),
                5 => r.subresource = f.text(),
                6 => r.namespace = f.text(),
                7 => r.name = f.text(),
                8 => r.username = string(part(f.bytes, 1)),
                9 => r.dry_run = f.value != 0,
                10 => r.meta = Meta::of(f.bytes, true),
                11 => r.old_meta = Meta::of(f.bytes, true),
                12 => r.object = f.bytes,
                13 => r.old_object = f.bytes,
                _ => {}
            }
        }
        r
    }
}

#[derive(Clone, Copy)]
pub enum PatchType {
    JsonPatch = 0,  // RFC 6902
    MergePatch = 1, // RFC 7386
    Object = 2,     // the whole object
}

/// Response allows, unless it refuses.
pub struct Response {
    pub allowed: bool,
    pub code: u32,       // HTTP status of a refusal; 0: 403
    pub message: Text, // why it is refused, for a person
    pub reason: Text,  // likewise, for a program
    pub warnings: List<Text>,
    pub audit: List<(Text, Text)>,
    pub patch: List<u8>, // of a mutating policy
    pub patch_type: PatchType,
}

impl Response {
    pub(crate) fn new() -> Self {
        Response {
            allowed: true,
            code: 0,
            message: Text::new(),
            reason: Text::new(),
            warnings: List::new(),
            audit: List::new(),
            patch: List::new(),
            patch_type: PatchType::JsonPatch,
        }
    }

    /// refuse says no, and why.
    pub fn refuse(&mut self, message: impl Into<Text>) {
        self.allowed = false;
        self.message = message.into();
    }

    pub(crate) fn write(&self, to: &mut List<u8>) {
        put_number(to, 1, self.allowed as u64);
        put_number(to, 2, self.code as u64);
        put_string(to, 3, &self.message);
        put_string(to, 4, &self.reason);
        for warning in self.warnings.iter() {
            put_bytes(to, 5, warning.as_bytes());
        }
        for (key, value) in self.audit.iter() {
            let mut pair = List::new();
            put_string(&mut pair, 1, key);
            put_string(&mut pair, 2, value);
            put_bytes(to, 6, &pair);
        }
        if !self.patch.is_empty() {
            put_bytes(to, 7, &self.patch);
        }
        put_number(to, 8, self.patch_type as u64);
    }
}
