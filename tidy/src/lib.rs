//! Nothing to link: the checks of the workspace are this crate's tests.
