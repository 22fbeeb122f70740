//! What a multipath device tells of itself.

use std::fmt;

use crate::lines::DeviceWord;

/// A status line of `multipath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<D> {
    /// Bios wait until a group is ready: so before the first one, and while a hardware handler activates.
    pub queues: bool,
    /// How often the current group was activated.
    pub pg_init_count: u32,
    /// The group that is next, or current, from 1; 0 where there is no group.
    pub current: usize,
    /// The groups.
    pub groups: Vec<GroupStatus<D>>,
}

/// What is said of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus<D> {
    /// Whether it is in use.
    pub state: GroupState,
    /// What its selector says of itself.
    pub selector: Vec<u32>,
    /// The paths; all have the same number of words from the selector.
    pub paths: Vec<PathStatus<D>>,
}

/// Whether a group is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It is (`A`).
    Active,
    /// It may be (`E`).
    Enabled,
    /// Not as long as there is another (`D`).
    Disabled,
}

/// What is said of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStatus<D> {
    /// The device.
    pub device: D,
    /// It has not failed (`A`, else `F`).
    pub is_active: bool,
    /// How often it has failed.
    pub failures: u32,
    /// What the selector says of it.
    pub selector: Vec<u64>,
}

impl GroupState {
    const ALL: [GroupState; 3] = [GroupState::Active, GroupState::Enabled, GroupState::Disabled];

    /// Returns the letter that status lines have for it.
    pub fn letter(self) -> char {
        match self {
            GroupState::Active => 'A',
            GroupState::Enabled => 'E',
            GroupState::Disabled => 'D',
        }
    }
}

impl<D> Status<D> {
    /// Returns how many paths have not failed.
    pub fn active_paths(&self) -> usize {
        let paths = self.groups.iter().flat_map(|group| &group.paths);
        paths.filter(|path| path.is_active).count()
    }
}

impl Status<DeviceWord> {
    /// Reads the text; nothing where it is no status.
    pub fn parse(text: &str) -> Option<Status<DeviceWord>> {
        let mut words = text.split_whitespace();
        if words.next()? != "2" {
            return None;
        }
        let queues = match words.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let pg_init_count = words.next()?.parse().ok()?;
        if words.next()? != "0" {
            return None;
        }
        let (count, current): (usize, usize) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let group = |_| GroupStatus::parse(&mut words);
        let groups = (0..count).map(group).collect::<Option<Vec<_>>>()?;
        let status = Status { queues, pg_init_count, current, groups };
        (current <= count && words.next().is_none()).then_some(status)
    }
}

impl GroupStatus<DeviceWord> {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<GroupStatus<DeviceWord>> {
        let letter = words.next()?;
        let shown = |state: &GroupState| letter == state.letter().encode_utf8(&mut [0; 4]);
        let state = GroupState::ALL.into_iter().find(shown)?;
        let own: usize = words.next()?.parse().ok()?;
        let selector =
            (0..own).map(|_| words.next()?.parse().ok()).collect::<Option<Vec<u32>>>()?;
        let (count, of_path): (usize, usize) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut paths = Vec::new();
        for _ in 0..count {
            let device = words.next()?.into();
            let is_active = match words.next()? {
                "A" => true,
                "F" => false,
                _ => return None,
            };
            let failures = words.next()?.parse().ok()?;
            let selector = (0..of_path).map(|_| words.next()?.parse().ok());
            let selector = selector.collect::<Option<Vec<u64>>>()?;
            paths.push(PathStatus { device, is_active, failures, selector });
        }
        Some(GroupStatus { state, selector, paths })
    }
}

/// As the kernel prints it, with a blank at the end.
impl<D: fmt::Display> fmt::Display for Status<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queues, count) = (u8::from(self.queues), self.groups.len());
        write!(f, "2 {queues} {} 0 {count} {} ", self.pg_init_count, self.current)?;
        self.groups.iter().try_for_each(|group| write!(f, "{group}"))
    }
}

impl<D: fmt::Display> fmt::Display for GroupStatus<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.state.letter(), self.selector.len())?;
        self.selector.iter().try_for_each(|word| write!(f, "{word} "))?;
        let of_path = self.paths.first().map_or(0, |path| path.selector.len());
        write!(f, "{} {of_path} ", self.paths.len())?;
        self.paths.iter().try_for_each(|path| {
            let letter = if path.is_active { 'A' } else { 'F' };
            write!(f, "{} {letter} {} ", path.device, path.failures)?;
            path.selector.iter().try_for_each(|word| write!(f, "{word} "))
        })
    }
}
