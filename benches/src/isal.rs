use std::ffi::{c_int, c_void};
use std::marker::PhantomData;

use libloading::Library;

/// `xor_gen` or `pq_gen`: buffers, their length, pointers to the sources and then the results.
type Function = unsafe extern "C" fn(c_int, c_int, *mut *mut c_void) -> c_int;

/// Where every pointer must lie, for any of its kernels.
const ALIGN: usize = 64;

/// ISA-L, found when the program runs.
pub(crate) struct Isal(Library);

/// Buffers that ISA-L may work on.
pub(crate) struct Ready<'a> {
    function: Function,
    pointers: Vec<*mut c_void>,
    len: c_int,
    borrowed: PhantomData<(&'a Isal, &'a mut [u8])>,
}

impl Isal {
    /// Loads the library, if it is there.
    pub(crate) fn load() -> Option<Isal> {
        // SAFETY: the library of this name and number is ISA-L 2, which does nothing when it is
        // loaded.
        unsafe { Library::new("libisal.so.2") }.ok().map(Isal)
    }

    /// Gets buffers of one length ready for `xor_gen` (one result) or `pq_gen` (two), or for a
    /// kernel of them: `xor_gen_avx`, `pq_gen_avx2` and so on.
    ///
    /// # Panics
    /// When the library lacks that function, or the buffers do not fulfil what it asks for.
    pub(crate) fn ready<'a, const RESULTS: usize>(
        &'a self,
        function: &str,
        sources: &[&'a [u8]],
        results: [&'a mut [u8]; RESULTS],
    ) -> Ready<'a> {
        let made = match RESULTS {
            1 => "xor_gen",
            2 => "pq_gen",
            _ => panic!("{RESULTS} results"),
        };
        assert!(function.starts_with(made), "{function} makes no {RESULTS} results");
        assert!(sources.len() >= 2, "ISA-L wants two sources");
        // SAFETY: a function of this name has this type, as raid.h of ISA-L declares it.
        let found = unsafe { self.0.get::<Function>(function) };
        let function = *found.expect("ISA-L has this function");
        let len = results[0].len();
        let mut pointers: Vec<*mut c_void> = Vec::new();
        for source in sources {
            assert_eq!(source.len(), len, "the buffers differ in length");
            pointers.push(source.as_ptr().cast_mut().cast());
        }
        for result in results {
            assert_eq!(result.len(), len, "the buffers differ in length");
            pointers.push(result.as_mut_ptr().cast());
        }
        assert!(pointers.iter().all(|pointer| pointer.addr() % ALIGN == 0), "an unaligned buffer");
        assert!(len.is_multiple_of(ALIGN), "a part of a line");
        let len = c_int::try_from(len).expect("a short buffer");
        Ready { function, pointers, len, borrowed: PhantomData }
    }
}

impl Ready<'_> {
    /// Works on the buffers.
    pub(crate) fn run(&mut self) {
        let (count, pointers) = (self.pointers.len() as c_int, self.pointers.as_mut_ptr());
        // SAFETY: so many pointers lie there, each to a buffer of this length that is borrowed
        // while this lives, the results mutably; `ready` has checked what else raid.h asks for.
        let failed = unsafe { (self.function)(count, self.len, pointers) };
        assert_eq!(failed, 0, "ISA-L takes the buffers");
    }
}
