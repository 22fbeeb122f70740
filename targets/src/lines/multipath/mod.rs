//! `multipath <#features> [<features>]* <#handler args> [<handler> [<args>]*] <#groups> <first group>
//! [<selector> <#args> [<args>]* <#paths> <#path args> [<dev> [<path args>]*]+]+`

mod features;
mod mask;
mod selector;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;

use sim_core::{Arg, CtrError, Errno, Sectors, Words};

use super::words::{DeviceWord, Devices, from_text};

pub use features::{Features, QueueMode};
pub use mask::ProcessorMask;
pub use selector::{PathArgs, Selector};
pub use status::{GroupState, GroupStatus, PathStatus, Status};

/// The most groups, paths of a group, and words of a part: the kernel's limit.
pub const MAX_COUNT: u32 = 1024;

/// A table line of `multipath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<D> {
    /// The features.
    pub features: Features,
    /// The hardware handler that the line asks for. Its arguments are not printed. No path of ours has
    /// any, so a line with one has no paths.
    pub handler: Option<String>,
    /// The groups, in the order of their priority.
    pub groups: Vec<Group<D>>,
    /// The group that is tried first, from 0; none where the line names one that it has not, which is
    /// printed as the first.
    pub first: Option<usize>,
}

/// Paths of one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<D> {
    /// How a path is chosen.
    pub selector: Selector,
    /// The paths, 1 to [`MAX_COUNT`].
    pub paths: Vec<Path<D>>,
}

/// A way to the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<D> {
    /// The device.
    pub device: D,
    /// What the selector is told of it.
    pub args: PathArgs,
}

impl<D> Line<D> {
    /// Reads the words.
    pub fn parse(
        words: &mut Words<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Line<D>, CtrError> {
        const GROUPS: &str = "invalid number of priority groups";
        const FIRST: &str = "invalid initial priority group number";
        let features = Features::parse(words)?;
        let handler = parse_handler(words, features.queue_mode, devices)?;
        let (_, count) = words.number(0..=MAX_COUNT, GROUPS)?;
        let (first_word, first) = words.number(0..=MAX_COUNT, FIRST)?;
        if (count == 0) != (first == 0) {
            let expected = "a group, or 0 where there is none";
            return Err(first_word.error(expected, "invalid initial priority group"));
        }
        let mut groups = Vec::new();
        while words.left() > 0 {
            groups.push(Group::parse(words, handler.as_deref(), devices)?);
        }
        if groups.len() != count as usize {
            let detail = format!("expected {count} groups, found {}", groups.len());
            return Err(CtrError::new("priority group count mismatch").detail(detail));
        }
        let first = (first as usize).checked_sub(1).filter(|first| *first < groups.len());
        Ok(Line { features, handler, groups, first })
    }

    /// Puts something else for each device.
    pub fn try_map<E, F>(&self, mut device: impl FnMut(&D) -> Result<E, F>) -> Result<Line<E>, F> {
        let mut path =
            |path: &Path<D>| Ok(Path { device: device(&path.device)?, args: path.args.clone() });
        let mut group = |group: &Group<D>| {
            let paths = group.paths.iter().map(&mut path).collect::<Result<_, F>>()?;
            Ok(Group { selector: group.selector, paths })
        };
        Ok(Line {
            features: self.features,
            handler: self.handler.clone(),
            groups: self.groups.iter().map(&mut group).collect::<Result<_, F>>()?,
            first: self.first,
        })
    }
}

impl Line<DeviceWord> {
    /// Reads the text after the type.
    pub fn from_text(text: &str, len: Sectors) -> Result<Line<DeviceWord>, CtrError> {
        from_text(text, len, Line::parse)
    }
}

impl<D> Group<D> {
    fn parse(
        words: &mut Words<'_>,
        handler: Option<&str>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Group<D>, CtrError> {
        const PATHS: &str = "not enough path parameters";
        if words.left() < 2 {
            let word = words.next("not enough priority group arguments")?;
            return Err(word.error("a whole group", "not enough priority group arguments"));
        }
        let selector = Selector::parse(words)?;
        let (paths_word, count) = words.number(1..=MAX_COUNT, "invalid number of paths")?;
        let (_, args) = words.number(0..=MAX_COUNT, "invalid number of selector args")?;
        let mut paths = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..count {
            if words.left() < 1 + args as usize {
                let expected = format_args!("as many paths as follow, {}", paths.len());
                return Err(paths_word.error(expected, PATHS));
            }
            let word = words.next(PATHS)?;
            let device = devices.open(word, "error getting device")?;
            if let Some(handler) = handler.filter(|_| devices.facts(&device).is_some()) {
                let kernel = "error attaching hardware handler";
                let expected = format_args!("a SCSI device, for the handler `{handler}`");
                return Err(word.error(expected, kernel).errno(Errno::NODEV));
            }
            let of_path = (0..args).map(|_| words.next(PATHS)).collect::<Result<Vec<_>, _>>()?;
            let args = PathArgs::parse(selector, word, &of_path, &mut taken, devices)?;
            paths.push(Path { device, args });
        }
        Ok(Group { selector, paths })
    }
}

/// Reads what a line says of a hardware handler, and returns its name.
fn parse_handler<D>(
    words: &mut Words<'_>,
    mode: QueueMode,
    devices: &mut impl Devices<Device = D>,
) -> Result<Option<String>, CtrError> {
    let args = group(words, MAX_COUNT, "invalid number of hardware handler args")?;
    match (args.first(), mode) {
        (None, _) => Ok(None),
        (Some(_), QueueMode::Bios) => {
            let why = format_args!("bio-based multipath doesn't allow hardware handler args");
            devices.log("multipath", why);
            Ok(None)
        }
        (Some(name), QueueMode::Requests) => Ok(Some(name.text().to_owned())),
    }
}

/// Reads a number, and as many words after it, as the kernel's `dm_read_arg_group` does.
fn group<'a>(words: &mut Words<'a>, most: u32, kernel: &str) -> Result<Vec<Arg<'a>>, CtrError> {
    let left = u32::try_from(words.left().saturating_sub(1)).unwrap_or(u32::MAX);
    let (_, count) = words.number(0..=most.min(left), kernel)?;
    (0..count).map(|_| words.next(kernel)).collect()
}

/// As the kernel prints it, with a blank at the end.
impl<D: fmt::Display> fmt::Display for Line<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.features)?;
        match &self.handler {
            Some(handler) => write!(f, "1 {} ", DeviceWord(handler.clone()))?,
            None => f.write_str("0 ")?,
        }
        let first = match (self.first, self.groups.len()) {
            (_, 0) => 0,
            (first, _) => first.unwrap_or(0) + 1,
        };
        write!(f, "{} {first} ", self.groups.len())?;
        self.groups.iter().try_for_each(|group| write!(f, "{group}"))
    }
}

impl<D: fmt::Display> fmt::Display for Group<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (paths, args) = (self.paths.len(), self.selector.path_args());
        write!(f, "{} {}{paths} {args} ", self.selector.name(), self.selector)?;
        self.paths.iter().try_for_each(|path| {
            write!(f, "{} ", path.device)?;
            path.args.write(self.selector, f)
        })
    }
}
