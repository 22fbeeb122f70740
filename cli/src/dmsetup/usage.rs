//! What `help` says.

use super::dm::Called;

const TEXT: &str = include_str!("usage.txt");

/// The usage text, with the name that the program was called by.
pub(super) fn text(called: Called) -> String {
    match called {
        Called::Dmsetup => TEXT.to_owned(),
        Called::Dmsim => TEXT.replacen("\ndmsetup\n", "\ndmsim\n", 1),
    }
}
