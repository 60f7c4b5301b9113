//! Policies for Pintle in Rust: ABI pintle/v1, without std and without other crates, alloc included: Debian 12's compiler
//! (1.63) has no stable way to use that one without std. `Text` and `List` take the places of String and Vec.
//!
//! A policy is a type with the traits of what it takes part in, and one line that exports them:
//!
//! ```ignore
//! #![no_std]
//! struct Labels;
//!
//! impl pintle::Policy for Labels {
//!     fn configure(_: &pintle::Settings, needs: &mut pintle::Needs) -> Result<Self, pintle::Text> {
//!         needs.wants = pintle::Wants::Nothing;
//!         Ok(Labels)
//!     }
//! }
//!
//! impl pintle::Admit for Labels {
//!     fn admit(&mut self, request: &pintle::Request, response: &mut pintle::Response) {
//!         if request.meta.labels.get("team").is_none() {
//!             response.refuse("missing label: team");
//!         }
//!     }
//! }
//!
//! pintle::export!(Labels: Admit);
//! ```
//!
//! What is read from a message borrows it, so the compiler sees to it that nothing outlives its call. A message that is
//! no protobuf ends the call with a trap, as the ABI wants it, and so does a panic.
#![no_std]

#[cfg(not(target_arch = "wasm32"))]
compile_error!("policies are built with --target wasm32-unknown-unknown");

mod admission;
#[doc(hidden)]
pub mod calls;
mod host;
pub mod json;
mod memory;
mod nodes;
mod scheduling;
mod settings;
mod wire;

pub use admission::{Admit, Meta, Operation, PatchType, Request, Response};
pub use host::{intern, log, lookup, now_ms, Level};
pub use json::Json;
pub use memory::{text, List, Text};
pub use nodes::{Node, Nodes, Place};
pub use scheduling::{Decision, Permit, PermitRequest, PermitResponse, Pod, PostFilter, PostFilterRequest, PostFilterResponse, QueueKey};
pub use settings::{Column, Needs, Policy, Settings, Wants};
pub use wire::Pairs;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// Exports a policy: its type, and the traits by which it takes part.
#[macro_export]
macro_rules! export {
    ($policy:ty: $($hook:ident),+) => {
        static mut PINTLE_POLICY: Option<$policy> = None;

        #[no_mangle]
        pub extern "C" fn pintle_abi() -> u32 {
            1 << 16 | 1
        }

        #[no_mangle]
        pub extern "C" fn pintle_alloc(size: usize) -> *mut u8 {
            $crate::calls::alloc(size)
        }

        #[no_mangle]
        pub unsafe extern "C" fn pintle_configure(at: *const u8, len: usize) -> u64 {
            $crate::calls::configure::<$policy>(&mut *core::ptr::addr_of_mut!(PINTLE_POLICY), at, len)
        }

        $($crate::export_hook!($policy, $hook);)+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! export_hook {
    ($policy:ty, Admit) => {
        $crate::export_hook!($policy, pintle_admit, admit, u64);
    };
    ($policy:ty, QueueKey) => {
        $crate::export_hook!($policy, pintle_queue_key, queue_key, i64);
    };
    ($policy:ty, Permit) => {
        $crate::export_hook!($policy, pintle_permit, permit, u64);
    };
    ($policy:ty, PostFilter) => {
        $crate::export_hook!($policy, pintle_post_filter, post_filter, u64);
    };
    ($policy:ty, Place) => {
        #[no_mangle]
        pub extern "C" fn pintle_region(kind: usize, size: usize) -> *mut u8 {
            $crate::calls::region(kind, size)
        }
        $crate::export_hook!($policy, pintle_place, place, u64);
    };
    ($policy:ty, $export:ident, $call:ident, $result:ty) => {
        #[no_mangle]
        pub unsafe extern "C" fn $export(at: *const u8, len: usize) -> $result {
            $crate::calls::$call::<$policy>(&mut *core::ptr::addr_of_mut!(PINTLE_POLICY), at, len)
        }
    };
}
