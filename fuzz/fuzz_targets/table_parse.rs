//! See [`fuzz::table_parse`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::table_parse(data));
