//! The messages that a multipath device takes.

use std::sync::atomic::Ordering::SeqCst;

use sim_core::{DevNumber, Errno, Refusal, Sectors, Words};

use super::Multipath;

/// What a message does to paths.
#[derive(Clone, Copy)]
enum Action {
    Fail,
    Reinstate,
}

impl Action {
    fn of(word: &str) -> Option<Action> {
        match &*word.to_ascii_lowercase() {
            "fail_path" => Some(Action::Fail),
            "reinstate_path" => Some(Action::Reinstate),
            _ => None,
        }
    }
}

/// Tells which word of a message names a device, if one does.
pub(super) fn device(words: &[&str]) -> Option<usize> {
    match words {
        [word, _] => Action::of(word).map(|_| 1),
        _ => None,
    }
}

impl Multipath {
    pub(super) fn take_message(&self, words: &[&str]) -> Result<Option<String>, Refusal> {
        let invalid = |why: &str| self.log.refusal(Errno::INVAL, why);
        if self.suspended.load(SeqCst) {
            return Err(Refusal::because(Errno::BUSY, "is suspended"));
        }
        let first = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        match (&*first, words) {
            ("queue_if_no_path", [_]) => self.state().set_queueing(true),
            ("fail_if_no_path", [_]) => {
                self.state().set_queueing(false);
                self.signal.notify();
            }
            ("disable_group", [_, group]) => self.bypass(group, true)?,
            ("enable_group", [_, group]) => self.bypass(group, false)?,
            ("switch_group", [_, group]) => {
                let group = self.group(group, "switch_pg_num")?;
                self.state().switch_to(group);
                self.events.raise();
            }
            (_, [word, device]) => match Action::of(word) {
                Some(action) => self.act(action, device)?,
                None => {
                    let why = format!("Unrecognised multipath message received: {word}");
                    return Err(invalid(&why));
                }
            },
            _ => {
                let count = words.len();
                return Err(invalid(&format!(
                    "Invalid multipath message arguments. Expected 2 arguments, got {count}."
                )));
            }
        }
        Ok(None)
    }

    fn bypass(&self, group: &str, bypassed: bool) -> Result<(), Refusal> {
        let group = self.group(group, "bypass_pg")?;
        self.state().bypass(group, bypassed);
        self.events.raise();
        Ok(())
    }

    /// Reads the number of a group, counted from 1.
    fn group(&self, word: &str, function: &str) -> Result<usize, Refusal> {
        let words = [word];
        let number =
            Words::new(&words, Sectors::ZERO).next("").and_then(|word| word.wrapping_u32(""));
        let group = number.ok().and_then(|number| (number as usize).checked_sub(1));
        group.filter(|group| *group < self.paths.len()).ok_or_else(|| {
            let why = format!("invalid PG number supplied to {function}");
            self.log.refusal(Errno::INVAL, &why)
        })
    }

    /// Does something to all paths on a device, whose number the core has put into the message.
    fn act(&self, action: Action, device: &str) -> Result<(), Refusal> {
        let Ok(number) = device.parse::<DevNumber>() else {
            let why = format!("message: error getting device {device}");
            return Err(self.log.refusal(Errno::NOENT, &why));
        };
        let mut found = false;
        for (group, paths) in self.paths.iter().enumerate() {
            for (path, _) in paths.iter().enumerate().filter(|(_, area)| area.number() == number) {
                found = true;
                match action {
                    Action::Fail => self.fail_path(group, path),
                    Action::Reinstate => self.reinstate_path(group, path),
                }
            }
        }
        let why = || Refusal::because(Errno::INVAL, format!("none of its paths is on {number}"));
        found.then_some(()).ok_or_else(why)
    }
}
