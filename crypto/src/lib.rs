//! What dm-crypt computes.
#![forbid(unsafe_code)]
