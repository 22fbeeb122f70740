//! The fields of column reports: what `-o`, `-O` and `-S` know.

use super::field::{Field, Group, Id, Kind};
use super::statistics::STATISTICS;

pub(crate) const GROUPS: &[Group] =
    &[Group::Name, Group::Info, Group::Deps, Group::Parts, Group::Stats, Group::Region];

const fn field(
    group: Group,
    name: &'static str,
    id: Id,
    heading: &'static str,
    width: usize,
    kind: Kind,
    what: &'static str,
) -> Field {
    Field { group, name, id, heading, width, kind, what }
}

/// Fields that take a walk over all devices: `deps_all` does without them, as in dmsetup.
const OF_THE_TREE: &[Id] =
    &[Id::DevsUsed, Id::DeviceRefCount, Id::NamesUsingDev, Id::DevnosUsingDev];

const FIELDS: &[Field] = &[
    field(Group::Name, "name", Id::Name, "Name", 16, Kind::String, "Name of mapped device."),
    field(
        Group::Name,
        "mangled_name",
        Id::MangledName,
        "MangledName",
        16,
        Kind::String,
        "Mangled name of mapped device.",
    ),
    field(
        Group::Name,
        "unmangled_name",
        Id::UnmangledName,
        "UnmangledName",
        16,
        Kind::String,
        "Unmangled name of mapped device.",
    ),
    field(
        Group::Name,
        "uuid",
        Id::Uuid,
        "UUID",
        32,
        Kind::String,
        "Unique (optional) identifier for mapped device.",
    ),
    field(
        Group::Name,
        "mangled_uuid",
        Id::MangledUuid,
        "MangledUUID",
        32,
        Kind::String,
        "Mangled unique (optional) identifier for mapped device.",
    ),
    field(
        Group::Name,
        "unmangled_uuid",
        Id::UnmangledUuid,
        "UnmangledUUID",
        32,
        Kind::String,
        "Unmangled unique (optional) identifier for mapped device.",
    ),
    field(Group::Name, "read_ahead", Id::ReadAhead, "RAhead", 6, Kind::Number, "Read ahead value."),
    field(
        Group::Info,
        "blkdevname",
        Id::Blkdevname,
        "BlkDevName",
        16,
        Kind::String,
        "Name of block device.",
    ),
    field(
        Group::Info,
        "attr",
        Id::Attr,
        "Stat",
        4,
        Kind::String,
        "(L)ive, (I)nactive, (s)uspended, (r)ead-only, read-(w)rite.",
    ),
    field(
        Group::Info,
        "tables_loaded",
        Id::TablesLoaded,
        "Tables",
        6,
        Kind::String,
        "Which of the live and inactive table slots are filled.",
    ),
    field(
        Group::Info,
        "suspended",
        Id::Suspended,
        "Suspended",
        9,
        Kind::String,
        "Whether the device is suspended.",
    ),
    field(
        Group::Info,
        "readonly",
        Id::Readonly,
        "Read-only",
        9,
        Kind::String,
        "Whether the device is read-only or writeable.",
    ),
    field(
        Group::Info,
        "devno",
        Id::Devno,
        "DevNo",
        5,
        Kind::String,
        "Device major and minor numbers",
    ),
    field(Group::Info, "major", Id::Major, "Maj", 3, Kind::Number, "Block device major number."),
    field(Group::Info, "minor", Id::Minor, "Min", 3, Kind::Number, "Block device minor number."),
    field(
        Group::Info,
        "open",
        Id::Open,
        "Open",
        4,
        Kind::Number,
        "Number of references to open device, if requested.",
    ),
    field(
        Group::Info,
        "segments",
        Id::Segments,
        "Targ",
        4,
        Kind::Number,
        "Number of segments in live table, if present.",
    ),
    field(
        Group::Info,
        "events",
        Id::Events,
        "Event",
        6,
        Kind::Number,
        "Number of most recent event.",
    ),
    field(
        Group::Deps,
        "device_count",
        Id::DeviceCount,
        "#Devs",
        5,
        Kind::Number,
        "Number of devices used by this one.",
    ),
    field(
        Group::Deps,
        "devs_used",
        Id::DevsUsed,
        "DevNamesUsed",
        16,
        Kind::String,
        "List of names of mapped devices used by this one.",
    ),
    field(
        Group::Deps,
        "devnos_used",
        Id::DevnosUsed,
        "DevNosUsed",
        16,
        Kind::String,
        "List of device numbers of devices used by this one.",
    ),
    field(
        Group::Deps,
        "blkdevs_used",
        Id::BlkdevsUsed,
        "BlkDevNamesUsed",
        16,
        Kind::String,
        "List of names of block devices used by this one.",
    ),
    field(
        Group::Deps,
        "device_ref_count",
        Id::DeviceRefCount,
        "#Refs",
        5,
        Kind::Number,
        "Number of mapped devices referencing this one.",
    ),
    field(
        Group::Deps,
        "names_using_dev",
        Id::NamesUsingDev,
        "RefNames",
        8,
        Kind::String,
        "List of names of mapped devices using this one.",
    ),
    field(
        Group::Deps,
        "devnos_using_dev",
        Id::DevnosUsingDev,
        "RefDevNos",
        9,
        Kind::String,
        "List of device numbers of mapped devices using this one.",
    ),
    field(
        Group::Parts,
        "subsystem",
        Id::Subsystem,
        "Subsys",
        6,
        Kind::String,
        "Userspace subsystem responsible for this device.",
    ),
    field(Group::Parts, "vg_name", Id::VgName, "VG", 4, Kind::String, "LVM Volume Group name."),
    field(Group::Parts, "lv_name", Id::LvName, "LV", 4, Kind::String, "LVM Logical Volume name."),
    field(Group::Parts, "lv_layer", Id::LvLayer, "LVLayer", 7, Kind::String, "LVM device layer."),
];

static SELECTED: Field = field(
    Group::Special,
    "selected",
    Id::Selected,
    "Selected",
    8,
    Kind::Number,
    "Set if item passes selection criteria.",
);

fn all() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().chain(STATISTICS)
}

/// Finds the fields that a word stands for: one, with or without what those of its group begin with,
/// or a group, or those that `all` stands for. Case and underscores do not matter.
pub(crate) fn find(word: &str, everything: &[Group]) -> Option<Vec<&'static Field>> {
    let same = |name: &str| {
        let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
        plain(name) == plain(word)
    };
    if same("all") {
        return Some(all().filter(|field| everything.contains(&field.group)).collect());
    }
    if let Some(group) = GROUPS.iter().find(|group| same(group.all())) {
        let of_group = |field: &&Field| field.group == *group && !OF_THE_TREE.contains(&field.id);
        return Some(all().filter(of_group).collect());
    }
    let named = |field: &&Field| same(field.name) || same_without_prefix(field, word);
    all().chain(std::iter::once(&SELECTED)).find(named).map(|field| vec![field])
}

/// Tells whether a word is the name of a field without the prefix of its group: `start` is
/// `region_start`.
fn same_without_prefix(field: &Field, word: &str) -> bool {
    let prefix = field.group.all().trim_end_matches("all");
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    let rest = field.name.strip_prefix(prefix).filter(|_| !prefix.is_empty());
    rest.is_some_and(|rest| plain(rest) == plain(word))
}

/// Whom the list of fields is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HelpFor {
    /// `-o` and `-O`: with the words for groups.
    Options,
    /// `-S`: with the fields' types.
    Selection,
}

/// Writes the list of fields.
pub(crate) fn help(whom: HelpFor) -> String {
    let mut text = String::new();
    let line = |name: &str, what: &str, kind: &str| match whom {
        HelpFor::Options => format!("  {name:<21} - {what}\n"),
        HelpFor::Selection => format!("  {name:<21} - {what} [{kind}]\n"),
    };
    for group in GROUPS {
        text.push_str(&title(*group));
        if whom == HelpFor::Options {
            text.push_str(&line(group.all(), "All fields in this section.", ""));
        }
        for field in all().filter(|field| field.group == *group) {
            text.push_str(&line(field.name, field.what, field.kind.word()));
        }
        text.push_str(" \n");
    }
    text.push_str(&title(Group::Special));
    text.push_str(&line(SELECTED.name, SELECTED.what, SELECTED.kind.word()));
    text.push_str(&line("help", "Show help.", "unselectable number"));
    text.push_str(&line("?", "Show help.", "unselectable number"));
    text.push_str(" \n");
    text
}

fn title(group: Group) -> String {
    let title = format!("{} Fields", group.title());
    format!("{title}\n{}\n", "-".repeat(title.len()))
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Size => "size",
            Kind::String => "string",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_underscores_do_not_matter() {
        assert_eq!(find("READAHEAD", GROUPS).unwrap()[0].name, "read_ahead");
        assert_eq!(find("na_me", GROUPS).unwrap()[0].name, "name");
        assert!(
            find("DM_NAME", GROUPS).is_none()
                && find("na", GROUPS).is_none()
                && find("", GROUPS).is_none()
        );
    }

    #[test]
    fn a_group_stands_for_its_fields() {
        let names: Vec<&str> =
            find("splitname_all", GROUPS).unwrap().iter().map(|field| field.name).collect();
        assert_eq!(names, ["subsystem", "vg_name", "lv_name", "lv_layer"]);
    }

    #[test]
    fn the_list_of_fields_is_laid_out_in_two_columns() {
        let help = help(HelpFor::Options);
        let begin = "Mapped Device Name Fields\n-------------------------\n  name_all              \
                     - All fields in this section.\n  name                  - Name of mapped device.\n";
        assert!(help.starts_with(begin), "{help}");
        assert_eq!(help.lines().count(), 111);
        let help = super::help(HelpFor::Selection);
        assert!(help.contains("\n  region_start          - Region start. [size]\n"));
    }
}
