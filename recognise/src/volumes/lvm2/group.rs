//! The model of a group out of the text of its metadata.

use std::collections::HashMap;

use super::super::{Area, Group, Logical, Mapping, Physical, Segment};
use super::text::{Section, Value};

/// The longest names: LVM2 has them end in a file's name and a device's.
const LONGEST_NAME: usize = 127;

/// Reads the text of a metadata area, or of a file of `vgcfgbackup`.
pub(super) fn read(text: &[u8]) -> Result<Group, String> {
    let all = Section::parse(text).map_err(|bad| bad.to_string())?;
    let is_group = |section: &Section| section.number("seqno").is_some();
    let (name, section) = all
        .sections()
        .find(|(_, section)| is_group(section))
        .ok_or("no section of a volume group")?;
    check_name(name)?;
    let extent = positive(section, "extent_size", name)?;
    let mut group = Group {
        name: name.to_owned(),
        id: id(section, name)?,
        seqno: number(section, "seqno", name)?,
        exported: section.has("status", "EXPORTED"),
        extent,
        physical: Vec::new(),
        logical: Vec::new(),
    };
    let mut keys = HashMap::new();
    for (key, volume) in section.section("physical_volumes").into_iter().flat_map(Section::sections)
    {
        keys.insert(key.to_owned(), group.physical.len());
        group.physical.push(Physical {
            id: id(volume, key)?,
            hint: volume.text("device").unwrap_or_default().to_owned(),
            size: volume.number("dev_size").unwrap_or(0),
            first: number(volume, "pe_start", key)?,
            extents: number(volume, "pe_count", key)?,
            stale: volume.has("flags", "MISSING") || volume.has("status", "MISSING"),
        });
    }
    let reader = Reader { keys: &keys, group: &group };
    let logical = section.section("logical_volumes").into_iter().flat_map(Section::sections);
    group.logical =
        logical.map(|(name, volume)| reader.logical(name, volume)).collect::<Result<_, _>>()?;
    Ok(group)
}

struct Reader<'a> {
    keys: &'a HashMap<String, usize>,
    group: &'a Group,
}

impl Reader<'_> {
    fn logical(&self, name: &str, volume: &Section) -> Result<Logical, String> {
        check_name(name)?;
        let count = number(volume, "segment_count", name)?;
        let mut segments: Vec<Segment> = Vec::new();
        for (key, section) in volume.sections().filter(|(key, _)| key.starts_with("segment")) {
            let place = format!("{name}: {key}");
            segments.push(Segment {
                start: number(section, "start_extent", &place)?,
                extents: positive(section, "extent_count", &place)?,
                mapping: self.mapping(section, &place)?,
            });
        }
        if segments.len() as u64 != count {
            return Err(format!("{name}: {} segments, expected {count}", segments.len()));
        }
        segments.sort_by_key(|segment| segment.start);
        let mut next = 0u64;
        for segment in &segments {
            if segment.start != next {
                return Err(format!(
                    "{name}: a segment at extent {}, expected {next}",
                    segment.start
                ));
            }
            next = next.checked_add(segment.extents).ok_or_else(|| format!("{name}: too long"))?;
        }
        if next.checked_mul(self.group.extent).is_none_or(|len| len > i64::MAX as u64 / 512) {
            return Err(format!("{name}: too long"));
        }
        Ok(Logical {
            name: name.to_owned(),
            id: id(volume, name)?,
            visible: volume.has("status", "VISIBLE"),
            writable: volume.has("status", "WRITE") && !volume.has("flags", "WRITE_LOCKED"),
            not_synced: volume.has("status", "NOTSYNCED"),
            write_mostly: volume.has("status", "WRITEMOSTLY"),
            rebuild: volume.has("status", "REBUILD"),
            segments,
        })
    }

    fn mapping(&self, section: &Section, place: &str) -> Result<Mapping, String> {
        let kind = section.text("type").ok_or_else(|| format!("{place}: no type"))?;
        // `type = "x+FLAG"`: what older versions are not to touch.
        let (kind, flags) = kind.split_once('+').unwrap_or((kind, ""));
        let chunk = section.number("stripe_size").unwrap_or(0);
        let text = |key: &str| {
            let text = section.text(key).map(str::to_owned);
            text.ok_or_else(|| format!("{place}: no {key}"))
        };
        Ok(match kind {
            _ if !flags.is_empty() => Mapping::Other { name: format!("{kind}+{flags}") },
            "striped" | "linear" => {
                let areas = self.areas(section, "stripes", place)?;
                let count = section.number("stripe_count").unwrap_or(1);
                if count != areas.len() as u64 || (areas.len() > 1 && chunk == 0) {
                    return Err(format!(
                        "{place}: {} stripes of {chunk} sectors, expected {count}",
                        areas.len()
                    ));
                }
                Mapping::Striped { chunk, areas }
            }
            "mirror" => Mapping::Mirror {
                region: positive(section, "region_size", place)?,
                log: section.text("mirror_log").map(str::to_owned),
                moved: section
                    .number("extents_moved")
                    .or(section.number("extents_copied"))
                    .unwrap_or(0),
                legs: self.areas(section, "mirrors", place)?,
            },
            "raid0" | "raid0_meta" | "raid1" | "raid4" | "raid10" => raid(section, kind, place)?,
            _ if kind.starts_with("raid5") || kind.starts_with("raid6") => {
                raid(section, kind, place)?
            }
            "snapshot" => {
                let merging = section.text("merging_store").is_some();
                Mapping::Snapshot {
                    chunk: positive(section, "chunk_size", place)?,
                    origin: text("origin")?,
                    store: text(if merging { "merging_store" } else { "cow_store" })?,
                    merging,
                }
            }
            "error" => Mapping::Error,
            "zero" => Mapping::Zero,
            other => Mapping::Other { name: other.to_owned() },
        })
    }

    /// Reads pairs of a volume, physical or logical, and an extent of it.
    fn areas(&self, section: &Section, key: &str, place: &str) -> Result<Vec<Area>, String> {
        let wrong = || format!("{place}: {key}: expected pairs of a volume and an extent");
        let list = section.list(key).ok_or_else(wrong)?;
        let pairs = list.chunks(2).map(|pair| match pair {
            [Value::Text(volume), Value::Number(extent)] => Ok(match self.keys.get(volume) {
                Some(volume) => Area::Physical { volume: *volume, extent: *extent },
                None => Area::Logical { volume: volume.clone(), extent: *extent },
            }),
            _ => Err(wrong()),
        });
        let areas: Vec<Area> = pairs.collect::<Result<_, _>>()?;
        if areas.is_empty() { Err(wrong()) } else { Ok(areas) }
    }
}

fn raid(section: &Section, kind: &str, place: &str) -> Result<Mapping, String> {
    let wrong = || format!("{place}: expected names of the legs' volumes");
    let names = |key: &str| -> Result<Option<Vec<String>>, String> {
        let name = |value: &Value| match value {
            Value::Text(name) => Ok(name.clone()),
            _ => Err(wrong()),
        };
        section.list(key).map(|list| list.iter().map(name).collect()).transpose()
    };
    let legs: Vec<(Option<String>, String)> = match (names("raids")?, names("raid0_lvs")?) {
        (Some(names), _) if names.len() % 2 == 0 => {
            names.chunks(2).map(|leg| (Some(leg[0].clone()), leg[1].clone())).collect()
        }
        (None, Some(names)) => names.into_iter().map(|name| (None, name)).collect(),
        _ => return Err(wrong()),
    };
    // A reshape under way: where data lies meanwhile, only dm-raid's own superblocks say.
    let reshapes = ["data_offset", "reshape_count"].iter().any(|key| section.get(key).is_some());
    if reshapes {
        return Ok(Mapping::Other { name: format!("{kind} in a reshape") });
    }
    let options = [
        ("min_recovery_rate", section.number("min_recovery_rate")),
        ("max_recovery_rate", section.number("max_recovery_rate")),
        ("max_write_behind", section.number("writebehind")),
    ];
    Ok(Mapping::Raid {
        level: kind.to_owned(),
        chunk: section.number("stripe_size").unwrap_or(0),
        region: section.number("region_size").unwrap_or(0),
        copies: section.number("data_copies").unwrap_or(2),
        options: options.into_iter().filter_map(|(word, value)| Some((word, value?))).collect(),
        legs,
    })
}

fn number(section: &Section, key: &str, place: &str) -> Result<u64, String> {
    section.number(key).ok_or_else(|| format!("{place}: no number {key}"))
}

fn positive(section: &Section, key: &str, place: &str) -> Result<u64, String> {
    match number(section, key, place)? {
        0 => Err(format!("{place}: {key} is 0")),
        number => Ok(number),
    }
}

/// Reads an id: 38 characters with its hyphens.
fn id(section: &Section, place: &str) -> Result<String, String> {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '!' | '#');
    match section.text("id") {
        Some(id) if id.len() == 38 && id.chars().all(usual) => Ok(id.to_owned()),
        Some(_) => Err(format!("{place}: its id is none")),
        None => Err(format!("{place}: no id")),
    }
}

/// Refuses what LVM2 takes for no name: it would become part of a file's name.
fn check_name(name: &str) -> Result<(), String> {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-');
    let is_name = !name.is_empty() && !matches!(name, "." | "..") && name.len() <= LONGEST_NAME;
    match is_name && name.chars().all(usual) {
        true => Ok(()),
        false => Err(format!("`{}` is no name of a volume", name.escape_debug())),
    }
}
