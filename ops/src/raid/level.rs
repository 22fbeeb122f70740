//! Levels, as people and the kernel call them.

use targets::lines::raid::{Family, Kind};
use targets::raid::layout::Format;
use targets::raid::superblock::Superblock;

/// The levels that there are. The kernel's own types, as `raid6_nr`, are taken too.
pub const LEVELS: [&str; 6] = ["raid0", "raid1", "raid10", "raid4", "raid5", "raid6"];

/// Returns the type that a word means, and where a raid10 of that name keeps its copies: a level as
/// people say it (`5`, `raid5`), or the kernel's name.
pub(super) fn kind(word: &str) -> Option<(Kind, Option<Format>)> {
    let word = word.to_ascii_lowercase();
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let name = if is_number { format!("raid{word}") } else { word };
    let kind = match &*name {
        // What LVM makes of them.
        "raid5" => Kind::Raid5Ls,
        "raid6" => Kind::Raid6Zr,
        name => Kind::named(name)?,
    };
    Some(match kind {
        Kind::Raid10Near => (Kind::Raid10, Some(Format::Near)),
        Kind::Raid10Far => (Kind::Raid10, Some(Format::Far)),
        Kind::Raid10Offset => (Kind::Raid10, Some(Format::Offset)),
        kind => (kind, None),
    })
}

/// Returns what people call the level of a type.
pub(super) fn level(kind: Kind) -> &'static str {
    match (kind, kind.family()) {
        (Kind::Raid4, _) => "raid4",
        (_, Family::Raid0) => "raid0",
        (_, Family::Raid1) => "raid1",
        (_, Family::Raid10) => "raid10",
        (_, Family::Raid5) => "raid5",
        (_, Family::Raid6) => "raid6",
    }
}

/// Returns what people call the level of a set by the superblock of a leg.
pub(super) fn level_of(superblock: &Superblock) -> String {
    let geometry = superblock.geometry;
    let kind = Kind::of(geometry.level, geometry.layout);
    kind.map_or_else(|| format!("raid{}", geometry.level), |kind| level(kind).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_taken_as_people_and_as_the_kernel_say_it() {
        for (word, expected, of) in [
            ("0", Kind::Raid0, "raid0"),
            ("raid1", Kind::Raid1, "raid1"),
            ("10", Kind::Raid10, "raid10"),
            ("4", Kind::Raid4, "raid4"),
            ("5", Kind::Raid5Ls, "raid5"),
            ("RAID5", Kind::Raid5Ls, "raid5"),
            ("raid5_n", Kind::Raid5N, "raid5"),
            ("6", Kind::Raid6Zr, "raid6"),
            ("raid6", Kind::Raid6Zr, "raid6"),
            ("raid6_ls_6", Kind::Raid6Ls6, "raid6"),
        ] {
            assert_eq!(kind(word), Some((expected, None)), "{word}");
            assert_eq!(level(expected), of);
        }
        assert_eq!(kind("raid10_far"), Some((Kind::Raid10, Some(Format::Far))));
        for kind_of_all in Kind::all() {
            assert!(kind(kind_of_all.name()).is_some(), "{kind_of_all}");
        }
        for word in ["", "7", "raid", "raid7", "raid5_zr", "mirror", "a.img"] {
            assert_eq!(kind(word), None, "{word}");
        }
    }
}
