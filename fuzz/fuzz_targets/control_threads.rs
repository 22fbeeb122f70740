//! See [`fuzz::control_threads`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::control_threads(data));
