//! See [`fuzz::log_writes`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::log_writes(data));
