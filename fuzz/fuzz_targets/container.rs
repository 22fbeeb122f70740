//! See [`fuzz::container`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::container(data));
