//! The features that a line asks for.

use std::fmt;

use sim_core::{CtrError, TableType, Words};

use super::group;

/// What a line asks for besides its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Bios wait while no path is left.
    pub queue_if_no_path: bool,
    /// How often the activation of a group is tried again; 0 where the line says nothing.
    pub pg_init_retries: u32,
    /// How long after a failed activation the next is tried, in milliseconds.
    pub pg_init_delay_msecs: Option<u32>,
    /// A hardware handler that a path has is kept. Always so for bios.
    pub retain_attached_hw_handler: bool,
    /// What the device takes.
    pub queue_mode: QueueMode,
}

/// What the device takes of those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueMode {
    /// `bio`.
    Bios,
    /// `rq` or `mq`, which is not printed.
    #[default]
    Requests,
}

impl QueueMode {
    /// Returns the type that a table of such a line is of.
    pub fn table_type(self) -> TableType {
        match self {
            QueueMode::Bios => TableType::Bios,
            QueueMode::Requests => TableType::Requests,
        }
    }
}

impl Features {
    /// What a line has that asks for nothing.
    pub const NONE: Features = Features {
        queue_if_no_path: false,
        pg_init_retries: 0,
        pg_init_delay_msecs: None,
        retain_attached_hw_handler: false,
        queue_mode: QueueMode::Requests,
    };

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Features, CtrError> {
        const COUNT: &str = "invalid number of feature args";
        const UNKNOWN: &str = "Unrecognised multipath feature request";
        let mut features = Features::NONE;
        // The words after the count: the kernel reads the value of the last one past its end.
        let mut left = group(&mut words.clone(), 8, COUNT)?.len();
        words.next(COUNT)?;
        while left > 0 {
            let word = words.next(COUNT)?;
            left -= 1;
            let has_value = left > 0;
            match &*word.text().to_ascii_lowercase() {
                "queue_if_no_path" => features.queue_if_no_path = true,
                "retain_attached_hw_handler" => features.retain_attached_hw_handler = true,
                "pg_init_retries" if has_value => {
                    let kernel = "pg_init_retries must be between 1 and 50";
                    features.pg_init_retries = words.number(1..=50, kernel)?.1;
                    left -= 1;
                }
                "pg_init_delay_msecs" if has_value => {
                    let kernel = "pg_init_delay_msecs must be between 0 and 60000";
                    features.pg_init_delay_msecs = Some(words.number(0..=60000, kernel)?.1);
                    left -= 1;
                }
                "queue_mode" if has_value => {
                    let kernel = "Unknown 'queue_mode' requested";
                    let word = words.next(kernel)?;
                    features.queue_mode = match &*word.text().to_ascii_lowercase() {
                        "bio" => QueueMode::Bios,
                        "rq" | "mq" => QueueMode::Requests,
                        _ => return Err(word.error("`bio`, `rq` or `mq`", kernel)),
                    };
                    left -= 1;
                }
                "pg_init_retries" | "pg_init_delay_msecs" | "queue_mode" => {
                    return Err(word.error("a value after it", UNKNOWN));
                }
                _ => return Err(word.error("a feature", UNKNOWN)),
            }
        }
        features.retain_attached_hw_handler |= features.queue_mode == QueueMode::Bios;
        Ok(features)
    }

    fn words(&self) -> usize {
        usize::from(self.queue_if_no_path)
            + 2 * usize::from(self.pg_init_retries > 0)
            + 2 * usize::from(self.pg_init_delay_msecs.is_some())
            + usize::from(self.retain_attached_hw_handler)
            + 2 * usize::from(self.queue_mode == QueueMode::Bios)
    }
}

/// With a blank after each word.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.words())?;
        if self.queue_if_no_path {
            f.write_str("queue_if_no_path ")?;
        }
        if self.pg_init_retries > 0 {
            write!(f, "pg_init_retries {} ", self.pg_init_retries)?;
        }
        if let Some(delay) = self.pg_init_delay_msecs {
            write!(f, "pg_init_delay_msecs {delay} ")?;
        }
        if self.retain_attached_hw_handler {
            f.write_str("retain_attached_hw_handler ")?;
        }
        match self.queue_mode {
            QueueMode::Bios => f.write_str("queue_mode bio "),
            QueueMode::Requests => Ok(()),
        }
    }
}
