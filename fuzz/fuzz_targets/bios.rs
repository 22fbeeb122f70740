//! See [`fuzz::bios`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::bios(data));
