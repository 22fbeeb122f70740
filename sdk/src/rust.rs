//! Plug-ins in Rust: types taken over as they are, from a library of the same making.

use std::mem::size_of;

use sim_core::Registry;

/// What a library and the program that loads it must have in common: Rust has no stable ABI.
const STAMP: &str = concat!(
    "sim-core ",
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("DMSIM_CORE"),
    "), rustc ",
    env!("DMSIM_RUSTC")
);

/// The longest stamp that is looked at.
const MAX_STAMP: u32 = 1024;

/// Exports target types of this crate, a `cdylib`, for `dmsim start --plugin`.
///
/// ```
/// # use sim_core::*;
/// # struct Mine;
/// # impl Target for Mine {
/// #     fn map<'a>(&'a self, _: Bio<'a>) -> Mapped<'a> { Mapped::Completed(Ok(())) }
/// #     fn status(&self, _: StatusKind, _: &mut StatusWriter<'_>) -> std::fmt::Result { Ok(()) }
/// #     fn iterate_devices(&self, _: &mut dyn FnMut(&Area)) {}
/// # }
/// impl TargetType for Mine {
///     const NAME: &'static str = "mine";
///     const VERSION: [u32; 3] = [0, 1, 0];
///     fn ctr(args: &mut Args<'_>) -> Result<Mine, CtrError> {
///         args.exactly(0, "No arguments required").map(|()| Mine)
///     }
/// }
///
/// sdk::export_target!(Mine);
/// # fn main() {}
/// ```
///
/// The library is refused unless it was built by the same compiler, from the same sources of
/// `sim-core`, as the program that loads it. Neither may set a global allocator, as each frees
/// memory of the other.
#[macro_export]
macro_rules! export_target {
    ($($target:ty),+ $(,)?) => {
        #[doc(hidden)]
        #[allow(non_upper_case_globals, reason = "the name of a symbol")]
        #[unsafe(no_mangle)]
        pub static dmsim_rust_plugin: $crate::RustPlugin = $crate::RustPlugin::new(|| {
            $crate::sim_core::Registry::new()$(.with::<$target>())+
        });
    };
}

/// What [`export_target!`] exports. C's layout, as it is read before anything is known.
#[repr(C)]
pub struct RustPlugin {
    size: u32,
    stamp_len: u32,
    stamp: *const u8,
    types: fn() -> Registry,
}

// SAFETY: it is never written to, and points to a constant.
unsafe impl Sync for RustPlugin {}

impl RustPlugin {
    /// Describes a library whose types are those that `types` returns.
    #[doc(hidden)]
    pub const fn new(types: fn() -> Registry) -> RustPlugin {
        RustPlugin {
            size: size_of::<RustPlugin>() as u32,
            stamp_len: STAMP.len() as u32,
            stamp: STAMP.as_ptr(),
            types,
        }
    }
}

/// Takes the types of a library over, or says why not.
///
/// # Safety
/// `plugin` must be null, or the symbol of a library that stays loaded, made by
/// [`export_target!`] of some version.
pub(crate) unsafe fn take_over(plugin: *const RustPlugin) -> Result<Registry, String> {
    let size = size_of::<RustPlugin>() as u32;
    if plugin.is_null() {
        return Err("dmsim_rust_plugin is null".to_owned());
    }
    // SAFETY: every version begins with its size.
    let found = unsafe { plugin.cast::<u32>().read_unaligned() };
    if found != size {
        return Err(format!("dmsim_rust_plugin: expected {size} bytes, found {found}"));
    }
    // SAFETY: it is as long as ours, and the parts before the function are the same.
    let (len, stamp) = unsafe { (*plugin).stamp() };
    if stamp.is_null() || len > MAX_STAMP {
        return Err("dmsim_rust_plugin: it does not say what it was built from".to_owned());
    }
    // SAFETY: the library says that there are so many bytes, which never change.
    let stamp = unsafe { std::slice::from_raw_parts(stamp, len as usize) };
    if stamp != STAMP.as_bytes() {
        let found = String::from_utf8_lossy(stamp);
        return Err(format!("it was not built with this dmsim: expected {STAMP}, found {found}"));
    }
    // SAFETY: the same compiler laid it out from the same sources.
    let types = unsafe { (*plugin).types };
    Ok(types())
}

impl RustPlugin {
    fn stamp(&self) -> (u32, *const u8) {
        (self.stamp_len, self.stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_of_another_making_is_refused_before_its_code_runs() {
        let never = || -> Registry { panic!("its code ran") };
        let refusal = |change: fn(&mut RustPlugin)| {
            let mut plugin = RustPlugin::new(never);
            change(&mut plugin);
            // SAFETY: what it points to are constants.
            unsafe { take_over(&plugin) }.err().unwrap()
        };
        let other = refusal(|plugin| plugin.stamp_len -= 1);
        assert!(
            other.contains("expected sim-core 0") && other.contains("found sim-core 0"),
            "{other}"
        );
        assert!(refusal(|plugin| plugin.size = 16).contains("found 16"));
        assert!(refusal(|plugin| plugin.stamp_len = u32::MAX).contains("does not say"));
        assert!(refusal(|plugin| plugin.stamp = std::ptr::null()).contains("does not say"));
    }
}
