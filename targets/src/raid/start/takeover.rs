//! Takeovers: a set gets another level, and no data moves. The superblocks say so from the next resume
//! on.
//!
//! The kernel takes more than these: raid5 as a raid6 whose data lies elsewhere, raid10 far as raid1,
//! and a leg for Q that is new and is not rebuilt. There the data is lost; here the first two are
//! refused in its words, and the leg is rebuilt.

use sim_core::{CtrError, Errno};

use super::analysis::Analysis;
use crate::raid::layout::{Format, Raid10};

/// Layouts of raid5, each with that of raid6 which has all but Q at the same places.
const WITH_Q: [(u32, u32); 5] = [(0, 16), (1, 17), (2, 18), (3, 19), (5, 5)];

impl<D> Analysis<'_, D> {
    /// Takes over what legs there are, or refuses to. Those that are new are rebuilt.
    pub(super) fn take_over(&mut self, recovering: bool) -> Result<(), CtrError> {
        if recovering || !self.can_take_over() {
            let why = "takeover not possible";
            let detail = format!("the set has level {}", self.geometry.level);
            return Err(CtrError::new(why).detail(detail));
        }
        if self.line.params.journal_dev.is_some() {
            let why = "Can't takeover a journaled raid4/5/6 set";
            return Err(CtrError::new(why).errno(Errno::PERM));
        }
        for member in self.members.iter_mut().filter(|member| member.is_new) {
            (member.in_sync, member.recovery) = (false, 0);
        }
        Ok(())
    }

    /// Tells whether the set has all data where the level that the line asks for has it.
    fn can_take_over(&self) -> bool {
        let (old, new, legs) = (self.geometry, self.asked, self.members.len());
        let near = |word: u32| match Raid10::parse(word) {
            Some((Format::Near, copies, _)) => Some(copies),
            _ => None,
        };
        match (old.level, new.level) {
            (0, 1) => self.devices == 1,
            (0, 5) if self.devices == 1 => legs == 2,
            (0, 10) => near(new.layout).is_some_and(|copies| legs == self.devices * copies),
            (0, 5 | 6) => new.layout == 5,
            (10, 1) => near(old.layout) == Some(self.devices),
            (10, 5) => near(old.layout) == Some(2) && self.devices == 2,
            (1, 5) => self.devices == 2,
            (1, 10) => near(new.layout) == Some(legs),
            (5, 1) => self.devices == 2,
            (5, 10) => self.devices == 2 && near(new.layout) == Some(2),
            (5, 6) => WITH_Q.contains(&(old.layout, new.layout)) && legs > self.devices,
            (6, 5) => WITH_Q.contains(&(new.layout, old.layout)) && legs < self.devices,
            _ => false,
        }
    }
}
