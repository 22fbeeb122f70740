//! The devices that a volume group becomes: names, uuids and tables as LVM2 itself makes them.

mod areas;
mod segments;

use std::collections::{HashMap, HashSet};

use sim_core::{Sector, Sectors, TargetSpec};
use targets::lines::{DeviceWord, snapshot};

use super::{Group, Logical, Mapping};
use crate::Layer;

/// How deep volumes may lie on one another.
const DEEPEST: usize = 16;

/// The longest name of a mapped device.
const LONGEST_NAME: usize = 127;

/// Where a physical volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What a table line calls the device.
    pub device: DeviceWord,
    /// Its length in sectors.
    pub sectors: u64,
}

/// A volume that no device is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOpened {
    /// The group and the volume, as `vg/lv`.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What becomes of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Its devices, each after those that it lies on.
    pub layers: Vec<Layer>,
    /// What cannot be opened.
    pub not_opened: Vec<NotOpened>,
    /// What a user should know of the rest.
    pub warnings: Vec<String>,
}

/// Plans the devices of a group. `there` has the place of each of its physical volumes, as far as there is
/// one. Where one is missing, or shorter than it was, what there is of the group is read-only: reads of what
/// is lost fail.
pub fn plan(group: &Group, there: &[Option<Place>], read_only: bool) -> Plan {
    let mut planner = Planner::new(group, there, read_only);
    planner.say_what_is_missing();
    // Snapshots before what they are of: whether all are there is known when the origin's turn comes.
    let has_snapshots =
        |nr: &usize| planner.snapshots.get(nr).is_some_and(|it| !it.of_it.is_empty());
    let (origins, others): (Vec<usize>, Vec<usize>) =
        (0..group.logical.len()).partition(has_snapshots);
    others.into_iter().chain(origins).for_each(|nr| planner.show(nr));
    planner.drop_what_nothing_needs();
    planner.plan
}

/// What a volume is beside what its segments say.
#[derive(Clone, Debug, Default)]
struct Snapshots {
    /// The snapshots of it: places of their stores in the list of volumes.
    of_it: Vec<usize>,
    /// It is the store of a snapshot.
    store: Option<Snapshot>,
}

#[derive(Clone, Copy, Debug)]
struct Snapshot {
    origin: usize,
    chunk: u64,
    merging: bool,
}

struct Planner<'a> {
    group: &'a Group,
    there: &'a [Option<Place>],
    read_only: bool,
    by_name: HashMap<&'a str, usize>,
    snapshots: HashMap<usize, Snapshots>,
    /// The devices that were made of volumes, or why none was.
    made: HashMap<usize, Result<DeviceWord, String>>,
    /// Whether all of a volume is there.
    whole: HashMap<usize, bool>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(group: &'a Group, there: &'a [Option<Place>], read_only: bool) -> Planner<'a> {
        let names = group.logical.iter().enumerate();
        let by_name: HashMap<&str, usize> = names.map(|(nr, it)| (it.name.as_str(), nr)).collect();
        let mut snapshots: HashMap<usize, Snapshots> = HashMap::new();
        for segment in group.logical.iter().flat_map(|volume| &volume.segments) {
            let Mapping::Snapshot { chunk, origin, store, merging } = &segment.mapping else {
                continue;
            };
            let known = (by_name.get(origin.as_str()), by_name.get(store.as_str()));
            if let (Some(&origin), Some(&store)) = known {
                snapshots.entry(origin).or_default().of_it.push(store);
                let snapshot = Snapshot { origin, chunk: *chunk, merging: *merging };
                snapshots.entry(store).or_default().store = Some(snapshot);
            }
        }
        Planner {
            group,
            there,
            read_only,
            by_name,
            snapshots,
            made: HashMap::new(),
            whole: HashMap::new(),
            plan: Plan::default(),
        }
    }

    /// Leaves out the parts of what could not be opened.
    fn drop_what_nothing_needs(&mut self) {
        let mut needed = HashSet::new();
        let mut kept: Vec<Layer> = Vec::new();
        // Each comes after what it lies on.
        for layer in self.plan.layers.drain(..).rev() {
            if layer.shown || needed.contains(&layer.name) {
                needed.extend(layer.lies_on().map(str::to_owned));
                kept.push(layer);
            }
        }
        kept.reverse();
        self.plan.layers = kept;
    }

    fn say_what_is_missing(&mut self) {
        let mut missing = Vec::new();
        for (nr, volume) in self.group.physical.iter().enumerate() {
            let hint = if volume.hint.is_empty() {
                String::new()
            } else {
                format!(", last seen as {}", volume.hint)
            };
            let end = volume
                .extents
                .checked_mul(self.group.extent)
                .and_then(|it| it.checked_add(volume.first));
            match &self.there[nr] {
                None => missing.push(format!("physical volume {}{hint} is missing", volume.id)),
                Some(place) if volume.stale => missing.push(format!(
                    "physical volume {} on {} is left out: the group went on without it, and what it holds is old",
                    volume.id, place.device
                )),
                Some(place) if end.is_none_or(|end| end > place.sectors) => missing.push(format!(
                    "physical volume {} on {} is cut short: {} sectors, expected {}",
                    volume.id,
                    place.device,
                    place.sectors,
                    end.unwrap_or(u64::MAX)
                )),
                Some(_) => {}
            }
        }
        let name = &self.group.name;
        if !missing.is_empty() && !self.read_only {
            self.read_only = true;
            missing.push(
                "what there is of it is opened read-only, and reads of what is lost fail"
                    .to_owned(),
            );
        }
        self.plan.warnings.extend(missing.into_iter().map(|what| format!("{name}: {what}")));
        if self.group.exported {
            let what = "was exported for another machine: `vgimport` makes it one's own again";
            self.plan.warnings.push(format!("{name}: {what}"));
        }
    }

    /// Makes what people see of a volume.
    fn show(&mut self, nr: usize) {
        let volume = &self.group.logical[nr];
        let is_snapshot_entry =
            volume.segments.iter().any(|it| matches!(it.mapping, Mapping::Snapshot { .. }));
        let snapshots = self.snapshots.get(&nr).cloned().unwrap_or_default();
        if is_snapshot_entry || !(volume.visible || snapshots.store.is_some()) {
            return;
        }
        let shown = match (snapshots.store, &snapshots.of_it[..]) {
            (Some(Snapshot { merging: true, .. }), _) => return,
            (Some(snapshot), []) => self.snapshot(nr, snapshot),
            (Some(_), _) => Err("it is a snapshot that has snapshots".to_owned()),
            (None, []) => self.base(nr, "", 0).map(drop),
            (None, stores) => self.origin(nr, stores),
        };
        match shown.and_then(|()| self.device_name(volume, "")) {
            Ok(name) => {
                // It may be there already, as a part of another.
                let mut layers = self.plan.layers.iter_mut().rev();
                if let Some(layer) = layers.find(|layer| layer.name == name) {
                    layer.shown = true;
                }
            }
            Err(why) => {
                let name = format!("{}/{}", self.group.name, volume.name);
                self.plan.not_opened.push(NotOpened { name, why });
            }
        }
    }

    /// Makes a volume that has snapshots.
    fn origin(&mut self, nr: usize, stores: &[usize]) -> Result<(), String> {
        let real = self.base(nr, "-real", 0)?;
        let merging = stores.iter().find_map(|store| {
            let snapshot = self.snapshots.get(store)?.store?;
            snapshot.merging.then_some((*store, snapshot.chunk))
        });
        let line = match merging {
            // What the merge will make of it is what its snapshot shows.
            Some((store, chunk)) => {
                let cow = self.base(store, "-cow", 0)?;
                let word = if self.read_only { "snapshot" } else { "snapshot-merge" };
                self.snapshot_line(nr, word, &real, &cow, chunk)?
            }
            None => self.line(Sectors(0), self.len(nr)?, "snapshot-origin", real.to_string()),
        };
        let logical = &self.group.logical;
        let others = stores.iter().filter(|store| merging.is_none_or(|(it, _)| it != **store));
        let needed =
            others.map(|store| self.device_name(&logical[*store], "")).collect::<Result<_, _>>()?;
        self.push(nr, "", vec![line], needed)?;
        self.keep_for_snapshots();
        Ok(())
    }

    /// Has the origin that was made last be read-only where one of its snapshots is not made: it would not see what
    /// is written, and be worth nothing.
    fn keep_for_snapshots(&mut self) {
        let Some((origin, others)) = self.plan.layers.split_last_mut() else { return };
        let is_made = |name: &&String| others.iter().any(|layer| layer.name == **name);
        let lost = origin.read_only_without.iter().find(|name| !is_made(name));
        if let Some(snapshot) = lost.filter(|_| !origin.read_only) {
            origin.read_only = true;
            self.plan.warnings.push(format!(
                "{}: is opened read-only: its snapshot {snapshot} cannot be opened, and would not see what is \
                 written",
                origin.name
            ));
        }
    }

    /// Makes a snapshot.
    fn snapshot(&mut self, store: usize, snapshot: Snapshot) -> Result<(), String> {
        if self.snapshots.get(&snapshot.origin).is_some_and(|it| it.store.is_some()) {
            return Err("it is a snapshot of a snapshot's store".to_owned());
        }
        let real = self.base(snapshot.origin, "-real", 0)?;
        let cow = self.base(store, "-cow", 0)?;
        let line = self.snapshot_line(snapshot.origin, "snapshot", &real, &cow, snapshot.chunk)?;
        self.push(store, "", vec![line], Vec::new())
    }

    fn snapshot_line(
        &self,
        origin: usize,
        target: &str,
        real: &DeviceWord,
        cow: &DeviceWord,
        chunk: u64,
    ) -> Result<TargetSpec, String> {
        let text = format!("{real} {cow} P {chunk}");
        let len = self.len(origin)?;
        snapshot::Line::from_text(&text, len).map_err(|error| error.to_string())?;
        Ok(self.line(Sectors(0), len, target, text))
    }

    /// Makes the device that a volume's segments are, unless it is there.
    fn base(
        &mut self,
        nr: usize,
        suffix: &'static str,
        depth: usize,
    ) -> Result<DeviceWord, String> {
        if let Some(made) = self.made.get(&nr) {
            return made.clone();
        }
        if depth > DEEPEST {
            return Err(format!("volumes lie on one another, more than {DEEPEST} deep"));
        }
        // Until it is made: one that lies on itself finds this.
        self.made.insert(nr, Err("it lies on itself".to_owned()));
        let made = self.make(nr, suffix, depth);
        self.made.insert(nr, made.clone());
        made
    }

    fn make(&mut self, nr: usize, suffix: &str, depth: usize) -> Result<DeviceWord, String> {
        let volume = &self.group.logical[nr];
        // No device is empty.
        self.len(nr)?;
        let mut lines = Vec::new();
        for (at, segment) in volume.segments.iter().enumerate() {
            let line = self.segment(volume, at, segment, depth);
            lines.push(line.map_err(|why| match volume.segments.len() {
                1 => why,
                _ => format!("segment {}: {why}", at + 1),
            })?);
        }
        let device = DeviceWord(format!("/dev/mapper/{}", self.device_name(volume, suffix)?));
        self.push(nr, suffix, lines, Vec::new())?;
        Ok(device)
    }

    /// Returns the place of a volume in the list.
    fn find(&self, name: &str) -> Result<usize, String> {
        let nr = self.by_name.get(name).copied();
        nr.ok_or_else(|| format!("there is no volume `{name}`, which it lies on"))
    }

    /// Returns the device of a volume that is part of another.
    fn volume(&mut self, name: &str, depth: usize) -> Result<DeviceWord, String> {
        let nr = self.find(name)?;
        self.base(nr, "", depth + 1).map_err(|why| format!("{name}: {why}"))
    }

    fn push(
        &mut self,
        nr: usize,
        suffix: &str,
        lines: Vec<TargetSpec>,
        read_only_without: Vec<String>,
    ) -> Result<(), String> {
        let volume = &self.group.logical[nr];
        // A snapshot's store takes what is written to its origin, too.
        let writable = volume.writable || suffix == "-cow" || suffix == "-real";
        self.plan.layers.push(Layer {
            name: self.device_name(volume, suffix)?,
            uuid: self.uuid(volume, suffix),
            lines,
            read_only: self.read_only || !writable,
            read_only_without,
            shown: false,
        });
        Ok(())
    }

    fn len(&self, nr: usize) -> Result<Sectors, String> {
        let segments = &self.group.logical[nr].segments;
        match segments.iter().map(|segment| segment.extents).sum::<u64>() {
            0 => Err("it has no segment".to_owned()),
            extents => Ok(Sectors(extents * self.group.extent)),
        }
    }

    /// Names a device: hyphens in names are doubled.
    fn device_name(&self, volume: &Logical, suffix: &str) -> Result<String, String> {
        let doubled = |name: &str| name.replace('-', "--");
        let name = format!("{}-{}{suffix}", doubled(&self.group.name), doubled(&volume.name));
        match name.len() <= LONGEST_NAME {
            true => Ok(name),
            false => Err(format!("the name of its device would have {} bytes", name.len())),
        }
    }

    fn uuid(&self, volume: &Logical, suffix: &str) -> String {
        let bare = |id: &str| id.replace('-', "");
        format!("LVM-{}{}{suffix}", bare(&self.group.id), bare(&volume.id))
    }

    fn line(&self, start: Sectors, len: Sectors, target: &str, params: String) -> TargetSpec {
        let target_type = target.to_owned();
        TargetSpec { start: Sector(start.0), len, target_type, params: params.as_str().into() }
    }
}
