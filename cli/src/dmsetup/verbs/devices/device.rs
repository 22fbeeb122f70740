//! One device that a reporting verb goes through.

use sim_core::DevNumber;

use crate::dmsetup::session::{Done, Session, Task};

/// One device of a report.
pub(crate) struct Device {
    pub(crate) task: Task,
    /// Its number, where a list has told it.
    pub(crate) dev: Option<DevNumber>,
    /// The name as it was given, or as it is shown in a list.
    pub(crate) shown: String,
    /// Others are reported too: lines need the name in front.
    pub(crate) one_of_many: bool,
}

impl Device {
    /// Returns the name to show, which for a device named by its uuid has to be asked for.
    pub(crate) fn shown_or_named(&self, session: &mut Session<'_, '_>) -> Done<String> {
        let status = session.known_status(&self.task)?;
        session.show_name(&status.name)
    }
}
