//! The regions of a device, as `@stats_list` tells them, and their groups.

use std::collections::BTreeMap;

/// What a region's kept text begins with where a group is kept there.
const GROUP: &str = "DMS_GROUP=";

/// One region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) id: u32,
    /// Of the device's, in sectors.
    pub(super) start: u64,
    pub(super) len: u64,
    /// The length of an area.
    pub(super) step: u64,
    pub(super) program: String,
    /// What its owner has it keep, without the group.
    pub(super) user_data: String,
    pub(super) precise: bool,
    /// Where the histogram is cut, in nanoseconds; none where there is none.
    pub(super) bounds: Vec<u64>,
    /// The group that is kept here: the region's own.
    pub(super) leads: Option<Group>,
}

/// A group: its number is that of the region which keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) alias: Option<String>,
    /// Numbers of regions, ascending.
    pub(super) members: Vec<u32>,
}

/// The regions of a device, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Regions {
    pub(super) list: Vec<Region>,
    /// The number of each region's group.
    groups: BTreeMap<u32, u32>,
}

impl Regions {
    /// Reads an answer to `@stats_list`; a line that is none of a list is left out.
    pub(super) fn parse(text: &str) -> Regions {
        let list: Vec<Region> = text.lines().filter_map(Region::parse).collect();
        let mut groups = BTreeMap::new();
        for (id, group) in
            list.iter().filter_map(|region| Some((region.id, region.leads.as_ref()?)))
        {
            groups.extend(group.members.iter().map(|member| (*member, id)));
        }
        Regions { list, groups }
    }

    pub(super) fn get(&self, id: u32) -> Option<&Region> {
        self.list.iter().find(|region| region.id == id)
    }

    /// Returns the number of the group that a region is in.
    pub(super) fn group_of(&self, id: u32) -> Option<u32> {
        self.groups.get(&id).copied()
    }

    /// Returns a group.
    pub(super) fn group(&self, id: u32) -> Option<&Group> {
        self.get(id)?.leads.as_ref()
    }

    /// Returns the regions of a group that are there.
    pub(super) fn members(&self, group: &Group) -> Vec<&Region> {
        group.members.iter().filter_map(|id| self.get(*id)).collect()
    }
}

impl Region {
    /// Reads `id: start+len step program aux [precise_timestamps] [histogram:...]`.
    fn parse(line: &str) -> Option<Region> {
        let (id, rest) = line.split_once(": ")?;
        let (range, rest) = rest.split_once(' ')?;
        let (start, len) = range.split_once('+')?;
        let (step, rest) = rest.split_once(' ')?;
        let (program, mut rest) = rest.split_once(' ')?;
        let mut bounds = Vec::new();
        if let Some((before, list)) = rest.rsplit_once(" histogram:")
            && let Some(read) = list.split(',').map(|word| word.parse().ok()).collect()
        {
            (rest, bounds) = (before, read);
        }
        let (aux, precise) = match rest.strip_suffix(" precise_timestamps") {
            Some(before) => (before, true),
            None => (rest, false),
        };
        if !precise {
            // In milliseconds, which no bound of a precise one is.
            bounds.iter_mut().for_each(|bound: &mut u64| *bound = bound.saturating_mul(1_000_000));
        }
        let (leads, aux) = Group::parse(aux);
        Some(Region {
            id: id.parse().ok()?,
            start: start.parse().ok()?,
            len: len.parse().ok()?,
            step: step.parse().ok().filter(|step| *step > 0)?,
            program: program.to_owned(),
            user_data: if aux == "-" { String::new() } else { aux.to_owned() },
            precise,
            bounds,
            leads,
        })
    }

    /// Returns the number of areas.
    pub(super) fn areas(&self) -> u64 {
        self.len.div_ceil(self.step)
    }

    /// Returns the text that is kept for this region with this group.
    pub(super) fn kept(&self, group: Option<&Group>) -> String {
        let data = if self.user_data.is_empty() { "-" } else { &self.user_data };
        match group {
            Some(group) => format!("{}#{data}", group.written()),
            None => data.to_owned(),
        }
    }
}

impl Group {
    /// Reads the group out of what a region keeps, and returns what else it does.
    fn parse(aux: &str) -> (Option<Group>, &str) {
        let read = || {
            let (group, data) = aux.strip_prefix(GROUP)?.split_once('#')?;
            let (alias, members) = group.rsplit_once(':')?;
            let alias = Some(alias.to_owned()).filter(|alias| !alias.is_empty());
            Some((Group { alias, members: parse_list(members)? }, data))
        };
        read().map_or((None, aux), |(group, data)| (Some(group), data))
    }

    fn written(&self) -> String {
        format!("{GROUP}{}:{}", self.alias.as_deref().unwrap_or_default(), self.ids())
    }

    /// Returns the numbers of the members: `0-2,5`.
    pub(super) fn ids(&self) -> String {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for id in &self.members {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*id) => *last = *id,
                _ => runs.push((*id, *id)),
            }
        }
        let run = |(first, last): &(u32, u32)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        runs.iter().map(run).collect::<Vec<_>>().join(",")
    }
}

/// Reads a list of numbers of regions: `0,2-4`. Nothing for what is none, or longer than any
/// device has regions.
pub(super) fn parse_list(text: &str) -> Option<Vec<u32>> {
    const MOST: usize = 1 << 20;
    let mut all = Vec::new();
    for word in text.split(',') {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (first.parse().ok()?, last.parse::<u32>().ok()?);
        if first > last || all.len() + (last - first) as usize >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_it_is_written() {
        let text = "0: 0+8 8 dmstats DMS_GROUP=:0-1#-\n\
                    1: 8+9 8 dmstats some data\n\
                    7: 16+8 4 other DMS_GROUP=an alias:7#x precise_timestamps histogram:1,2\n\
                    nonsense\n";
        let regions = Regions::parse(text);
        assert_eq!(regions.list.len(), 3);
        assert_eq!(regions.group_of(1), Some(0));
        assert_eq!(regions.get(1).unwrap().user_data, "some data");
        assert_eq!(regions.get(1).unwrap().areas(), 2);
        let last = regions.get(7).unwrap();
        assert_eq!((last.precise, &last.bounds[..], &*last.user_data), (true, &[1, 2][..], "x"));
        assert_eq!(last.leads.as_ref().unwrap().alias.as_deref(), Some("an alias"));
        assert_eq!(last.kept(last.leads.as_ref()), "DMS_GROUP=an alias:7#x");
    }

    #[test]
    fn a_list_of_regions_is_written_in_runs() {
        let ids = |list: &str| Group { alias: None, members: parse_list(list).unwrap() }.ids();
        assert_eq!(ids("5,0-1,2"), "0-2,5");
        for bad in ["x", "", "1,", "2-1", "0-4294967295", "-1"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
    }
}
