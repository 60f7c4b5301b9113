//! What the exported functions do. For `export!` alone.

use crate::admission::{Admit, Request, Response};
use crate::memory::{give, over, scratch, take, List};
use crate::nodes::{Nodes, Place, COLUMNS};
use crate::scheduling::{Permit, PermitRequest, PermitResponse, Pod, PostFilter, PostFilterRequest, PostFilterResponse, QueueKey};
use crate::settings::{Needs, Policy, Settings};
use crate::wire::put_string;
use core::ptr::addr_of_mut;

const REGIONS: usize = 9;

// A module has one thread, and the host makes one call after the other.
static mut ANSWER: List<u8> = List::new();
static mut REGION: [(*mut u8, usize); REGIONS] = [(core::ptr::null_mut(), 0); REGIONS];

pub fn alloc(size: usize) -> *mut u8 {
    scratch(size)
}

pub fn region(kind: usize, size: usize) -> *mut u8 {
    let region = match unsafe { (*addr_of_mut!(REGION)).get_mut(kind) } {
        Some(region) if size <= 1 << 30 => region,
        _ => return core::ptr::null_mut(),
    };
    // Records lie 8 bytes beyond the beginning of a line of the cache: then a pair of amounts shares one.
    let spare = if kind == 1 { 56 } else { 0 };
    if size + spare > region.1 || region.1 == 0 {
        if region.1 > 0 {
            unsafe { give(region.0, region.1) };
        }
        let size = (size + spare).max(64).next_power_of_two();
        *region = (take(size), size);
        if region.0.is_null() {
            region.1 = 0;
            return region.0;
        }
    }
    region.0.wrapping_add(8usize.wrapping_sub(region.0 as usize) & spare)
}

unsafe fn message<'a>(at: *const u8, len: usize) -> &'a [u8] {
    match len {
        0 => &[],
        _ => core::slice::from_raw_parts(at, len),
    }
}

/// answer runs a call and returns what it wrote.
unsafe fn answer(write: impl FnOnce(&mut List<u8>)) -> u64 {
    let out = &mut *addr_of_mut!(ANSWER);
    out.clear();
    write(out);
    over();
    match out.len() {
        0 => 0,
        n => (out.as_ptr() as usize as u64) << 32 | n as u64,
    }
}

pub unsafe fn configure<P: Policy>(to: &mut Option<P>, at: *const u8, len: usize) -> u64 {
    answer(|out| {
        let mut needs = Needs::new();
        match P::configure(&Settings::of(message(at, len)), &mut needs) {
            Ok(policy) => {
                *to = Some(policy);
                COLUMNS = needs.count;
                needs.write(out);
            }
            Err(error) if error.is_empty() => put_string(out, 1, "the settings are refused"),
            Err(error) => put_string(out, 1, &error),
        }
    })
}

/// ready is the policy that configure made. The host configures first: anything else is a trap.
fn ready<P>(policy: &mut Option<P>) -> &mut P {
    match policy {
        Some(policy) => policy,
        None => panic!(),
    }
}

pub unsafe fn admit<P: Admit>(policy: &mut Option<P>, at: *const u8, len: usize) -> u64 {
    answer(|out| {
        let mut response = Response::new();
        ready(policy).admit(&Request::of(message(at, len)), &mut response);
        response.write(out);
    })
}

pub unsafe fn place<P: Place>(policy: &mut Option<P>, at: *const u8, len: usize) -> u64 {
    answer(|out| {
        let header = (*addr_of_mut!(REGION))[0].0;
        if header.is_null() {
            panic!()
        }
        let mut nodes = Nodes::of(header, core::mem::replace(out, List::new()));
        ready(policy).place(&Pod::of(message(at, len)), &mut nodes);
        *out = nodes.into_reasons();
    })
}

pub unsafe fn queue_key<P: QueueKey>(policy: &mut Option<P>, at: *const u8, len: usize) -> i64 {
    let key = ready(policy).queue_key(&Pod::of(message(at, len)));
    over();
    key
}

pub unsafe fn permit<P: Permit>(policy: &mut Option<P>, at: *const u8, len: usize) -> u64 {
    answer(|out| {
        let mut response = PermitResponse::new();
        ready(policy).permit(&PermitRequest::of(message(at, len)), &mut response);
        response.write(out);
    })
}

pub unsafe fn post_filter<P: PostFilter>(policy: &mut Option<P>, at: *const u8, len: usize) -> u64 {
    answer(|out| {
        let mut response = PostFilterResponse::new();
        ready(policy).post_filter(&PostFilterRequest::of(message(at, len)), &mut response);
        response.write(out);
    })
}
