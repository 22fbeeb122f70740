//! See [`fuzz::table_text`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::table_text(data));
