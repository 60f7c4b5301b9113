//! JSON, read where it lies: a value is where its text begins, and what lies in it is looked at when it is asked for. The
//! host's JSON is well formed; of other text nothing is said but that reading it stays within it.

use crate::memory::scratch;

/// Json is a value, or none: what isn't there, or is no JSON.
#[derive(Clone, Copy)]
pub struct Json<'a> {
    text: &'a [u8], // from the value on, to the end of all that there is
}

fn space(text: &[u8]) -> &[u8] {
    let n = text.iter().take_while(|c| matches!(c, b' ' | b'\n' | b'\t' | b'\r')).count();
    &text[n..]
}

/// past_string is how long the string is at whose quote text begins.
fn past_string(text: &[u8]) -> usize {
    let mut i = 1;
    while i < text.len() {
        match text[i] {
            b'"' => return i + 1,
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    text.len()
}

fn past(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => past_string(text),
        Some(b'{') | Some(b'[') => {
            let (mut i, mut depth) = (0, 0u32);
            while i < text.len() {
                match text[i] {
                    b'"' => {
                        i += past_string(&text[i..]);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return i + 1;
                        }
                    }
                    _ => {}
                }
                i += 1;
            }
            text.len()
        }
        _ => text.iter().take_while(|c| !matches!(c, b',' | b'}' | b']') && **c > b' ').count(),
    }
}

fn hex4(text: &[u8]) -> u32 {
    let mut v = 0;
    for i in 0..4 {
        match text.get(i).and_then(|c| (*c as char).to_digit(16)) {
            Some(d) => v = v << 4 | d,
            None => return 0xfffd,
        }
    }
    v
}

/// unescape takes the text between two quotes. Without a backslash it is the string; otherwise the string lies in scratch,
/// which lasts as long as the call and so as the text. What is no UTF-8 reads as empty.
fn unescape(text: &[u8]) -> &str {
    if !text.contains(&b'\\') {
        return core::str::from_utf8(text).unwrap_or("");
    }
    let room = text.len() + 4; // only an escape that is cut off can be shorter than what it reads as
    let to = scratch(room);
    if to.is_null() {
        panic!()
    }
    let out = unsafe { core::slice::from_raw_parts_mut(to, room) };
    let (mut i, mut n) = (0, 0);
    while i < text.len() {
        let mut char = text[i] as u32;
        i += 1;
        if char != b'\\' as u32 || i >= text.len() {
            out[n] = char as u8;
            n += 1;
            continue;
        }
        char = match text[i] {
            b'n' => 10,
            b't' => 9,
            b'r' => 13,
            b'b' => 8,
            b'f' => 12,
            c => c as u32,
        };
        i += 1;
        if char == b'u' as u32 {
            char = hex4(&text[i..]);
            i = (i + 4).min(text.len());
            if (0xd800..0xdc00).contains(&char) && text[i..].starts_with(b"\\u") {
                let low = hex4(&text[i + 2..]);
                if (0xdc00..0xe000).contains(&low) {
                    char = 0x10000 + ((char - 0xd800) << 10) + (low - 0xdc00);
                    i += 6;
                }
            }
        } else if char >= 0x80 {
            out[n] = char as u8; // the first byte of a longer character: the others follow
            n += 1;
            continue;
        }
        n += char::from_u32(char).unwrap_or('\u{fffd}').encode_utf8(&mut out[n..]).len();
    }
    core::str::from_utf8(&out[..n]).unwrap_or("")
}

fn inside(string: &[u8]) -> &[u8] {
    &string[1..string.len().saturating_sub(1).max(1)]
}

impl<'a> Json<'a> {
    /// of reads a text.
    pub fn of(text: &'a [u8]) -> Self {
        Json { text: space(text) }
    }

    /// kind is `{`, `[`, `"`, `t`, `f`, `n`, `0` for a number, or a space for no value.
    pub fn kind(&self) -> u8 {
        match self.text.first() {
            None => b' ',
            Some(b'-') | Some(b'0'..=b'9') => b'0',
            Some(c) => *c,
        }
    }

    pub fn exists(&self) -> bool {
        !self.text.is_empty()
    }

    /// raw is the text of the value.
    pub fn raw(&self) -> &'a [u8] {
        &self.text[..past(self.text)]
    }

    /// get is an object's member, or no value. A member that is null is none.
    pub fn get(&self, name: &str) -> Json<'a> {
        if self.kind() == b'{' {
            let mut rest = &self.text[1..];
            while let Some((key, value)) = member(rest) {
                let same = if key.contains(&b'\\') { unescape(key) == name } else { key == name.as_bytes() };
                if same {
                    return if value[0] == b'n' { Json { text: &[] } } else { Json { text: value } };
                }
                rest = match space(&value[past(value)..]).split_first() {
                    Some((b',', rest)) => rest,
                    _ => break,
                };
            }
        }
        Json { text: &[] }
    }

    /// string is the string that the value is.
    pub fn string(&self) -> Option<&'a str> {
        match self.kind() {
            b'"' => Some(unescape(inside(self.raw()))),
            _ => None,
        }
    }

    /// is says whether the value is this string.
    pub fn is(&self, s: &str) -> bool {
        self.string().map_or(false, |have| have == s)
    }

    pub fn is_true(&self) -> bool {
        self.kind() == b't'
    }

    pub fn is_false(&self) -> bool {
        self.kind() == b'f'
    }

    /// int is the whole number that the value is.
    pub fn int(&self) -> Option<i64> {
        if self.kind() != b'0' {
            return None;
        }
        core::str::from_utf8(self.raw()).ok()?.parse().ok()
    }

    /// float is the number that the value is.
    pub fn float(&self) -> Option<f64> {
        if self.kind() != b'0' {
            return None;
        }
        core::str::from_utf8(self.raw()).ok()?.parse().ok()
    }

    /// elements walks an array; of what is none, nothing.
    pub fn elements(&self) -> Elements<'a> {
        Elements { rest: if self.kind() == b'[' { &self.text[1..] } else { &[] } }
    }

    /// members walks an object; of what is none, nothing.
    pub fn members(&self) -> Members<'a> {
        Members { rest: if self.kind() == b'{' { &self.text[1..] } else { &[] } }
    }
}

/// member finds the key, between its quotes, and the value with which rest begins.
fn member(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = space(rest);
    if rest.first() != Some(&b'"') {
        return None;
    }
    let (key, rest) = rest.split_at(past_string(rest));
    match space(rest).split_first() {
        Some((b':', rest)) if !space(rest).is_empty() => Some((inside(key), space(rest))),
        _ => None,
    }
}

/// after is what follows a value, behind the comma; empty when nothing does.
fn after(value: &[u8]) -> &[u8] {
    match space(&value[past(value)..]).split_first() {
        Some((b',', rest)) => rest,
        _ => &[],
    }
}

pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        let text = space(self.rest);
        if past(text) == 0 {
            return None;
        }
        self.rest = after(text);
        Some(Json { text })
    }
}

pub struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = member(self.rest)?;
        self.rest = after(value);
        Some((unescape(key), Json { text: value }))
    }
}

/// pod_template is the pod that an object is or makes by its template, with its metadata and spec; no value: it makes none.
pub fn pod_template<'a>(kind: &str, object: Json<'a>) -> Json<'a> {
    match kind {
        "Pod" => object,
        "PodTemplate" => object.get("template"),
        "CronJob" => object.get("spec").get("jobTemplate").get("spec").get("template"),
        _ => object.get("spec").get("template"),
    }
}
