//! Plug-ins: the example in C and the one in Rust at work, old ones, and such as return nonsense.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod in_turn;
mod machine;
mod nonsense;
mod recorded;
mod versions;
mod work;
