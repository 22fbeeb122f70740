//! What a target of an origin is for.

/// What a member's device does with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Snapshot,
    Merge,
}
