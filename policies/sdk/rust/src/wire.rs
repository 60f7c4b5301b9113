//! Protobuf, read where it lies and written into a vector.

use crate::memory::List;

/// Field is one field of a message: a number's value, or the bytes of what has a length.
pub struct Field<'a> {
    pub number: u32,
    pub value: u64,
    pub bytes: &'a [u8],
}

impl<'a> Field<'a> {
    /// text is the bytes as a string.
    pub fn text(&self) -> &'a str {
        string(self.bytes)
    }
}

/// Message walks the fields of a message. What is malformed is a trap.
#[derive(Clone, Copy)]
pub struct Message<'a>(pub &'a [u8]);

impl<'a> Message<'a> {
    fn varint(&mut self) -> u64 {
        let mut value = 0u64;
        for i in 0..10 {
            match self.0.split_first() {
                None => panic!(),
                Some((&c, rest)) => {
                    self.0 = rest;
                    value |= ((c & 0x7f) as u64) << (7 * i);
                    if c < 0x80 {
                        return value;
                    }
                }
            }
        }
        panic!()
    }
}

impl<'a> Iterator for Message<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let tag = self.varint();
        let number = (tag >> 3) as u32;
        let len = match tag & 7 {
            0 => return Some(Field { number, value: self.varint(), bytes: &[] }),
            2 => self.varint(),
            1 => 8, // of a later version: skipped
            5 => 4,
            _ => panic!(),
        };
        if len > self.0.len() as u64 {
            panic!()
        }
        let (bytes, rest) = self.0.split_at(len as usize);
        self.0 = rest;
        Some(Field { number, value: 0, bytes })
    }
}

pub fn put_varint(to: &mut List<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

pub fn put_number(to: &mut List<u8>, field: u32, value: u64) {
    if value != 0 {
        put_varint(to, (field << 3) as u64);
        put_varint(to, value);
    }
}

pub fn put_bytes(to: &mut List<u8>, field: u32, bytes: &[u8]) {
    put_varint(to, (field << 3 | 2) as u64);
    put_varint(to, bytes.len() as u64);
    to.extend(bytes);
}

pub fn put_string(to: &mut List<u8>, field: u32, s: &str) {
    if !s.is_empty() {
        put_bytes(to, field, s.as_bytes());
    }
}

/// part is a message's last field of this number.
pub fn part(message: &[u8], number: u32) -> &[u8] {
    Message(message).filter(|f| f.number == number).last().map_or(&[], |f| f.bytes)
}

/// string is bytes as a string; what is no UTF-8 reads as empty.
pub fn string(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("")
}

/// Pairs are labels, annotations or a selector, read where they lie.
#[derive(Clone, Copy)]
pub struct Pairs<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) field: u32,
}

fn pair<'a>(bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for f in Message(bytes) {
        match f.number {
            1 => key = f.bytes,
            2 => value = f.bytes,
            _ => {}
        }
    }
    (key, value)
}

impl<'a> Pairs<'a> {
    /// get is the value of a key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        for f in Message(self.message) {
            if f.number == self.field {
                let (k, v) = pair(f.bytes);
                if k == key.as_bytes() {
                    return Some(string(v));
                }
            }
        }
        None
    }

    /// iter walks the pairs in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let field = self.field;
        Message(self.message).filter(move |f| f.number == field).map(|f| {
            let (k, v) = pair(f.bytes);
            (string(k), string(v))
        })
    }
}
