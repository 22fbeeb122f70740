//! See [`fuzz::metadata_of_ours`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::metadata_of_ours(data));
