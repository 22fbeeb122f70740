//! The structs of `sdk/include/dmsim_target.h`, and how they are copied out of a library.

use std::ffi::{c_char, c_int, c_void};
use std::mem::{MaybeUninit, offset_of, size_of};

/// The version of the interface.
pub(crate) const MAJOR: u16 = 1;
/// The newest minor version.
pub(crate) const MINOR: u16 = 2;

/// How many callbacks of one handle may run at the same time.
pub(crate) const THREADS: usize = 16;
/// The longest I/O on a device, in sectors.
pub(crate) const MAX_IO: u64 = 65536;
/// The longest text of `status`, in bytes.
pub(crate) const MAX_STATUS: usize = 1 << 20;
/// The room for an answer to a message, in bytes.
pub(crate) const MAX_ANSWER: usize = 65536;
/// The most types in one library.
pub(crate) const MAX_TYPES: u32 = 64;
/// The longest name of a type (`DM_MAX_TYPE_NAME` without its zero byte).
pub(crate) const MAX_NAME: usize = 15;

pub(crate) const SINGLETON: u32 = 1;
pub(crate) const ALWAYS_WRITEABLE: u32 = 2;
pub(crate) const IMMUTABLE: u32 = 4;

pub(crate) const DISCARDED_ANYTHING: u32 = 0;
pub(crate) const DISCARDED_ZEROS: u32 = 1;
pub(crate) const DISCARDED_AS_BELOW: u32 = 2;

pub(crate) const STATUS_INFO: u32 = 0;
pub(crate) const STATUS_TABLE: u32 = 1;

/// `struct dmsim_plugin`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Plugin {
    pub(crate) size: u32,
    pub(crate) abi_major: u16,
    pub(crate) abi_minor: u16,
    pub(crate) target_count: u32,
    pub(crate) reserved: u32,
    pub(crate) targets: *const *const TargetType,
}

/// The part of [`Plugin`] that is the same in every major version.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PluginHead {
    pub(crate) size: u32,
    pub(crate) abi_major: u16,
    pub(crate) abi_minor: u16,
}

pub(crate) type Ctr = unsafe extern "C" fn(*mut Args, *mut *mut c_void) -> c_int;
pub(crate) type Dtr = unsafe extern "C" fn(*mut c_void);
pub(crate) type Read = unsafe extern "C" fn(*mut c_void, *const Io, u64, u64, *mut c_void) -> c_int;
pub(crate) type Write =
    unsafe extern "C" fn(*mut c_void, *const Io, u64, u64, *const c_void) -> c_int;
pub(crate) type Plain = unsafe extern "C" fn(*mut c_void, *const Io) -> c_int;
pub(crate) type Range = unsafe extern "C" fn(*mut c_void, *const Io, u64, u64) -> c_int;
pub(crate) type Status =
    unsafe extern "C" fn(*mut c_void, u32, *const *const c_char, *mut c_char, usize) -> c_int;
pub(crate) type Message = Status;

/// `struct dmsim_target_type`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TargetType {
    pub(crate) size: u32,
    pub(crate) features: u32,
    pub(crate) version: [u32; 3],
    pub(crate) reserved: u32,
    pub(crate) name: *const c_char,
    pub(crate) ctr: Option<Ctr>,
    pub(crate) dtr: Option<Dtr>,
    pub(crate) read: Option<Read>,
    pub(crate) write: Option<Write>,
    pub(crate) flush: Option<Plain>,
    pub(crate) discard: Option<Range>,
    pub(crate) write_zeroes: Option<Range>,
    pub(crate) status: Option<Status>,
    pub(crate) message: Option<Message>,
    pub(crate) preresume: Option<Plain>,
    pub(crate) postsuspend: Option<Plain>,
}

/// The shortest [`TargetType`]: it ends after the callbacks that all must have.
pub(crate) const MIN_TYPE: usize = offset_of!(TargetType, flush);

/// Returns the length of [`TargetType`] in a minor version.
pub(crate) fn type_len(minor: u16) -> usize {
    match minor {
        0 => offset_of!(TargetType, preresume),
        _ => size_of::<TargetType>(),
    }
}

/// `struct dmsim_args`.
#[repr(C)]
pub(crate) struct Args {
    pub(crate) size: u32,
    pub(crate) argc: u32,
    pub(crate) argv: *const *const c_char,
    pub(crate) target_len: u64,
    pub(crate) read_only: u32,
    pub(crate) error_size: u32,
    pub(crate) error: *mut c_char,
    pub(crate) error_arg: i32,
    pub(crate) reserved: u32,
    pub(crate) max_io_len: u64,
    pub(crate) host: *mut c_void,
    pub(crate) open: unsafe extern "C" fn(*mut Args, u32, u64, u64) -> c_int,
    pub(crate) discarded: u32,
    pub(crate) reserved_1_2: u32,
}

/// `struct dmsim_io`.
#[repr(C)]
pub(crate) struct Io {
    pub(crate) size: u32,
    pub(crate) devices: u32,
    pub(crate) host: *const c_void,
    pub(crate) read: unsafe extern "C" fn(*const Io, u32, u64, u64, *mut c_void) -> c_int,
    pub(crate) write: unsafe extern "C" fn(*const Io, u32, u64, u64, *const c_void) -> c_int,
    pub(crate) flush: unsafe extern "C" fn(*const Io, u32) -> c_int,
    pub(crate) discard: unsafe extern "C" fn(*const Io, u32, u64, u64) -> c_int,
    pub(crate) write_zeroes: unsafe extern "C" fn(*const Io, u32, u64, u64) -> c_int,
}

/// Structs of integers, raw pointers and optional functions alone.
///
/// # Safety
/// The type must be valid when every byte of it is zero.
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: integers and a raw pointer.
unsafe impl Zeroable for Plugin {}
// SAFETY: integers.
unsafe impl Zeroable for PluginHead {}
// SAFETY: integers, a raw pointer, and optional functions, which are null when they are zero.
unsafe impl Zeroable for TargetType {}

/// Copies the first `len` bytes of a struct out of a library; the rest is zero.
///
/// # Safety
/// `from` must be readable for `len` bytes, or for the whole struct where that is shorter, and
/// the pointers in it must be what the header says.
pub(crate) unsafe fn copy<T: Zeroable>(from: *const T, len: usize) -> T {
    let mut copy = MaybeUninit::<T>::zeroed();
    let (to, len) = (copy.as_mut_ptr().cast::<u8>(), len.min(size_of::<T>()));
    // SAFETY: the source is readable by the caller's word, the destination is a whole `T`. Byte
    // by byte, so that no alignment is relied on.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to, len) };
    // SAFETY: zero is valid for `T`, and so are the bytes that the library put there.
    unsafe { copy.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What the C compiler says of the header: sizes, and the places of the last members.
    const PROGRAM: &str = r#"
        #include "dmsim_target.h"
        #define AT(s, m) printf("%zu ", offsetof(struct s, m))
        #define SIZE(s) printf("%zu ", sizeof(struct s))
        int main(void) {
            SIZE(dmsim_plugin); AT(dmsim_plugin, targets); AT(dmsim_plugin, abi_minor);
            SIZE(dmsim_target_type); AT(dmsim_target_type, name); AT(dmsim_target_type, flush);
            AT(dmsim_target_type, preresume);
            SIZE(dmsim_args); AT(dmsim_args, error); AT(dmsim_args, error_arg);
            AT(dmsim_args, max_io_len); AT(dmsim_args, open);
            AT(dmsim_args, discarded);
            SIZE(dmsim_io); AT(dmsim_io, host); AT(dmsim_io, write_zeroes);
            printf("%d %d %d ", DMSIM_DISCARDED_ANYTHING, DMSIM_DISCARDED_ZEROS,
                   DMSIM_DISCARDED_AS_BELOW);
            printf("%d %d %d %d %d %d", DMSIM_ABI_MAJOR, DMSIM_ABI_MINOR, DMSIM_THREADS,
                   DMSIM_MAX_IO, DMSIM_MAX_STATUS, DMSIM_MAX_ANSWER);
        }"#;

    #[test]
    fn the_header_and_its_mirror_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (source, program) = (dir.path().join("layout.c"), dir.path().join("layout"));
        std::fs::write(&source, PROGRAM).unwrap();
        let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Werror", "-I", include, "-o"]).arg(&program).arg(&source);
        match cc.status() {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no cc: {error}");
                return println!("skipped: no cc: {error}");
            }
        }
        let found = String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap();
        let ours = [
            size_of::<Plugin>(),
            offset_of!(Plugin, targets),
            offset_of!(Plugin, abi_minor),
            size_of::<TargetType>(),
            offset_of!(TargetType, name),
            MIN_TYPE,
            type_len(0),
            size_of::<Args>(),
            offset_of!(Args, error),
            offset_of!(Args, error_arg),
            offset_of!(Args, max_io_len),
            offset_of!(Args, open),
            offset_of!(Args, discarded),
            size_of::<Io>(),
            offset_of!(Io, host),
            offset_of!(Io, write_zeroes),
            DISCARDED_ANYTHING as usize,
            DISCARDED_ZEROS as usize,
            DISCARDED_AS_BELOW as usize,
            MAJOR.into(),
            MINOR.into(),
            THREADS,
            MAX_IO as usize,
            MAX_STATUS,
            MAX_ANSWER,
        ];
        assert_eq!(found, ours.map(|number| number.to_string()).join(" "));
    }
}
