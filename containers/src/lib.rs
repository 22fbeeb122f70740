//! Encrypted containers.
#![forbid(unsafe_code)]
