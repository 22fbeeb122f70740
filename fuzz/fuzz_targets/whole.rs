//! See [`fuzz::whole`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::whole(data));
