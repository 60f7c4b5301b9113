//! What the host does for a policy.

use crate::json::Json;

mod imports {
    #[link(wasm_import_module = "pintle")]
    extern "C" {
        pub fn intern(at: *const u8, len: usize) -> u32;
        pub fn log(level: u32, at: *const u8, len: usize);
        pub fn now_ms() -> i64;
        pub fn lookup(at: *const u8, len: usize) -> u64;
    }
}

#[derive(Clone, Copy)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// intern returns the id that node records have for a string.
pub fn intern(s: &str) -> u32 {
    unsafe { imports::intern(s.as_ptr(), s.len()) }
}

/// log writes a line to the host's log.
pub fn log(level: Level, line: &str) {
    unsafe { imports::log(level as u32, line.as_ptr(), line.len()) }
}

/// now_ms is Unix time in milliseconds, the same throughout a call. It needs the capability "clock"; 0 without it.
pub fn now_ms() -> i64 {
    unsafe { imports::now_ms() }
}

/// lookup reads a cluster object, named `group/version/resource/namespace/name`, or with an empty name all of a namespace:
/// `{"items": […]}`. It needs the capability `read:group/resource`; what isn't there is no value. The value is handed to
/// `read`, since it lies in memory that the next call has again.
pub fn lookup<T>(path: &str, read: impl FnOnce(Json<'_>) -> T) -> T {
    let at = unsafe { imports::lookup(path.as_ptr(), path.len()) };
    let text = match at {
        0 => &[][..],
        _ => unsafe { core::slice::from_raw_parts((at >> 32) as usize as *const u8, at as u32 as usize) },
    };
    read(Json::of(text))
}
