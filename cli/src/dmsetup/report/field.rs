//! What a field of a column report is.

/// A group of fields, with the word that stands for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Name,
    Info,
    Deps,
    Parts,
    Stats,
    Region,
    Special,
}

/// What a field's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Size,
    String,
}

/// The fields that have values here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    Name,
    MangledName,
    UnmangledName,
    Uuid,
    MangledUuid,
    UnmangledUuid,
    ReadAhead,
    Blkdevname,
    Attr,
    TablesLoaded,
    Suspended,
    Readonly,
    Devno,
    Major,
    Minor,
    Open,
    Segments,
    Events,
    DeviceCount,
    DevsUsed,
    DevnosUsed,
    BlkdevsUsed,
    DeviceRefCount,
    NamesUsingDev,
    DevnosUsingDev,
    Subsystem,
    VgName,
    LvName,
    LvLayer,
    /// Whether the row passes the selection.
    Selected,
    /// A statistic: rows have it in reports on regions alone.
    Statistic,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) group: Group,
    pub(crate) name: &'static str,
    pub(crate) id: Id,
    pub(crate) heading: &'static str,
    /// The narrowest that its column gets, in characters.
    pub(crate) width: usize,
    pub(crate) kind: Kind,
    pub(crate) what: &'static str,
}

impl Group {
    pub(crate) fn all(self) -> &'static str {
        match self {
            Group::Name => "name_all",
            Group::Info => "info_all",
            Group::Deps => "deps_all",
            Group::Parts => "splitname_all",
            Group::Stats => "stats_all",
            Group::Region => "region_all",
            Group::Special => "",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Group::Name => "Mapped Device Name",
            Group::Info => "Mapped Device Information",
            Group::Deps => "Mapped Device Relationship Information",
            Group::Parts => "Mapped Device Name Components",
            Group::Stats => "Mapped Device Statistics",
            Group::Region => "Mapped Device Statistics Region Information",
            Group::Special => "Special",
        }
    }
}
