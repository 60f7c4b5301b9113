//! Memory without an allocator crate: lists and text that grow, and the scratch that a call's messages lie in.

use core::cell::UnsafeCell;
use core::mem::{align_of, size_of};
use core::ops::{Deref, DerefMut};

/// Heap gives out pieces that are powers of two, aligned to 16. What is given back is kept by size and given out again.
struct Heap {
    top: usize,
    end: usize,
    free: [usize; 31],
}

struct Shared<T>(UnsafeCell<T>);

// A module has one thread.
unsafe impl<T> Sync for Shared<T> {}

static HEAP: Shared<Heap> = Shared(UnsafeCell::new(Heap { top: 0, end: 0, free: [0; 31] }));

fn class(size: usize) -> usize {
    (usize::BITS - (size.max(16) - 1).leading_zeros()) as usize
}

/// take returns room for size bytes; null when there is none.
pub(crate) fn take(size: usize) -> *mut u8 {
    if size > 1 << 30 {
        return core::ptr::null_mut();
    }
    let heap = unsafe { &mut *HEAP.0.get() };
    let class = class(size);
    let freed = heap.free[class];
    if freed != 0 {
        heap.free[class] = unsafe { *(freed as *const usize) };
        return freed as *mut u8;
    }
    let size = 1usize << class;
    let mut at = heap.top;
    if size > heap.end - at {
        // What is left of the last pages is lost, unless the new ones follow them.
        let pages = (size + 0xffff) >> 16;
        let before = core::arch::wasm32::memory_grow(0, pages);
        if before == usize::MAX {
            return core::ptr::null_mut();
        }
        if before << 16 != heap.end {
            at = before << 16;
        }
        heap.end = (before + pages) << 16;
    }
    heap.top = at + size;
    at as *mut u8
}

/// give takes back what take returned for this size.
pub(crate) unsafe fn give(at: *mut u8, size: usize) {
    let heap = &mut *HEAP.0.get();
    let class = class(size);
    *(at as *mut usize) = heap.free[class];
    heap.free[class] = at as usize;
}

/// List is a vector: it grows, and reads as a slice.
pub struct List<T> {
    at: *mut T,
    len: usize,
    room: usize,
}

impl<T> List<T> {
    pub const fn new() -> Self {
        List { at: align_of::<T>() as *mut T, len: 0, room: 0 }
    }

    /// reserve makes room for n more. Without memory it is a trap.
    pub fn reserve(&mut self, n: usize) {
        let want = self.len + n;
        if want <= self.room {
            return;
        }
        let room = want.max(2 * self.room).max(8);
        let at = match room.checked_mul(size_of::<T>()) {
            Some(size) => take(size) as *mut T,
            None => core::ptr::null_mut(),
        };
        if at.is_null() {
            panic!()
        }
        unsafe { core::ptr::copy_nonoverlapping(self.at, at, self.len) };
        self.free();
        self.at = at;
        self.room = room;
    }

    fn free(&mut self) {
        if self.room > 0 {
            unsafe { give(self.at as *mut u8, self.room * size_of::<T>()) };
            self.room = 0;
        }
    }

    pub fn push(&mut self, value: T) {
        self.reserve(1);
        unsafe { self.at.add(self.len).write(value) };
        self.len += 1;
    }

    /// clear keeps the room.
    pub fn clear(&mut self) {
        let len = core::mem::replace(&mut self.len, 0);
        unsafe { core::ptr::drop_in_place(core::ptr::slice_from_raw_parts_mut(self.at, len)) };
    }
}

impl<T: Copy> List<T> {
    pub fn extend(&mut self, values: &[T]) {
        self.reserve(values.len());
        unsafe { core::ptr::copy_nonoverlapping(values.as_ptr(), self.at.add(self.len), values.len()) };
        self.len += values.len();
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        self.clear();
        self.free();
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        unsafe { core::slice::from_raw_parts(self.at, self.len) }
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        unsafe { core::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// Text is a string that grows.
pub struct Text(List<u8>);

impl Text {
    pub const fn new() -> Self {
        Text(List::new())
    }

    pub fn push(&mut self, s: &str) {
        self.0.extend(s.as_bytes());
    }

    pub fn push_number(&mut self, n: i64) {
        let (mut digits, mut at, mut rest) = ([0; 20], 20, n.unsigned_abs());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if n < 0 {
            self.push("-");
        }
        self.0.extend(&digits[at..]);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        unsafe { core::str::from_utf8_unchecked(&self.0) }
    }
}

impl From<&str> for Text {
    fn from(s: &str) -> Self {
        text(&[s])
    }
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.push(s);
        Ok(())
    }
}

/// text puts parts together.
pub fn text(parts: &[&str]) -> Text {
    let mut t = Text::new();
    for part in parts {
        t.push(part);
    }
    t
}

/// Scratch is what lasts as long as a call. When a larger piece takes the smaller one's place, that stays: the call may
/// still read it.
struct Scratch {
    at: usize,
    size: usize,
    used: usize,
    full: List<(usize, usize)>,
    over: bool, // the call whose messages these are has returned
}

static SCRATCH: Shared<Scratch> = Shared(UnsafeCell::new(Scratch { at: 0, size: 0, used: 0, full: List::new(), over: false }));

/// scratch returns room for size bytes, aligned to 8, that lasts as long as the call; null when there is none.
pub(crate) fn scratch(size: usize) -> *mut u8 {
    let s = unsafe { &mut *SCRATCH.0.get() };
    if s.over {
        s.over = false;
        s.used = 0;
        for &(at, size) in s.full.iter() {
            unsafe { give(at as *mut u8, size) };
        }
        s.full.clear();
    }
    if size > 1 << 30 {
        return core::ptr::null_mut();
    }
    let size = (size + 7) & !7;
    if size > s.size - s.used {
        let room = size.max(2 * s.size).max(4096).next_power_of_two();
        let at = take(room);
        if at.is_null() {
            return at;
        }
        if s.size > 0 {
            s.full.push((s.at, s.size));
        }
        s.at = at as usize;
        s.size = room;
        s.used = 0;
    }
    let at = s.at + s.used;
    s.used += size;
    at as *mut u8
}

/// over says that the call has returned.
pub(crate) fn over() {
    unsafe { (*SCRATCH.0.get()).over = true };
}
