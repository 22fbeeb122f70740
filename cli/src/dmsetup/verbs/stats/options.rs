//! The options that `stats` alone reads.

use super::size::Units;
use crate::dmsetup::options::number;

/// The options of `stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(super) alias: Option<String>,
    pub(super) all_devices: bool,
    pub(super) all_programs: bool,
    pub(super) all_regions: bool,
    pub(super) areas: Option<u32>,
    pub(super) area_size: Option<String>,
    pub(super) bounds: Option<String>,
    pub(super) clear: bool,
    pub(super) file_map: bool,
    pub(super) group_id: Option<u32>,
    pub(super) histogram: bool,
    pub(super) length: Option<String>,
    pub(super) no_group: bool,
    pub(super) no_suffix: bool,
    pub(super) precise: bool,
    pub(super) program: Option<String>,
    pub(super) raw: bool,
    pub(super) region_id: Option<u32>,
    pub(super) regions: Option<String>,
    pub(super) relative: bool,
    pub(super) segments: bool,
    pub(super) start: Option<String>,
    pub(super) units: Option<String>,
    pub(super) user_data: Option<String>,
    /// The rows of a report: areas, regions, groups.
    pub(super) rows: Rows,
}

/// Which rows a report has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) areas: bool,
    pub(super) regions: bool,
    pub(super) groups: bool,
    /// None for a region that is one area, nor for a group that is one region.
    pub(super) skip_single: bool,
}

impl Statistics {
    /// Takes an option; any other is left alone.
    pub(in crate::dmsetup) fn set(&mut self, name: &str, value: String) {
        match name {
            "alias" => self.alias = Some(value),
            "alldevices" => self.all_devices = true,
            "allprograms" => self.all_programs = true,
            "allregions" => self.all_regions = true,
            "area" => self.rows.areas = true,
            "areas" => self.areas = Some(number(&value)),
            "areasize" => self.area_size = Some(value),
            "bounds" => self.bounds = Some(value),
            "clear" => self.clear = true,
            "filemap" => self.file_map = true,
            "group" => self.rows.groups = true,
            "groupid" => self.group_id = Some(number(&value)),
            "histogram" => self.histogram = true,
            "length" => self.length = Some(value),
            "nogroup" => self.no_group = true,
            "nosuffix" => self.no_suffix = true,
            "precise" => self.precise = true,
            "programid" => self.program = Some(value),
            "raw" => self.raw = true,
            "region" => self.rows.regions = true,
            "regionid" => self.region_id = Some(number(&value)),
            "regions" => self.regions = Some(value),
            "relative" => self.relative = true,
            "segments" => self.segments = true,
            "start" => self.start = Some(value),
            "units" => self.units = Some(value),
            "userdata" => self.user_data = Some(value),
            _ => (),
        }
    }

    /// Tells whether sizes can be shown as `--units` asks.
    pub(in crate::dmsetup) fn has_units(&self) -> bool {
        Units::new(self.units.as_deref(), true).is_some()
    }

    /// Returns whose regions are meant; nothing for everybody's.
    pub(super) fn owner(&self) -> Option<&str> {
        match self.all_programs {
            true => None,
            false => Some(self.program.as_deref().unwrap_or(PROGRAM)),
        }
    }
}

/// The program that regions belong to unless another is named.
pub(super) const PROGRAM: &str = "dmstats";
