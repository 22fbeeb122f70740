//! `dmsim raid replace`: another image in the place of a leg, filled from the other legs.
//!
//! The table that has the new leg rebuilt is in use for a moment alone. What it began is in the
//! superblocks then, and the table that stays says nothing of it: one with `rebuild` would begin anew
//! at each restart, and believe whatever leg it finds beside.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::PathBuf;

use daemon::Fault;
use sim_core::control::{Command, Id, NewName};
use sim_core::{Access, Sectors, TargetSpec};
use targets::lines::raid::{Action, LegHealth, Status};

use super::advice;
use super::leg::label::Label;
use super::leg::ring::Stretch;
use super::leg::{Names, file_of, image_there, leg as leg_of, refuse_full, refuse_small};
use super::level::level;
use super::remove::is_ours;
use super::state::{Line, has_all, layout, look_at, number, redundant, refuse_md, table};
use super::steps::Done;
use super::wait::{KEPT, until_synced};
use crate::commands::{act, suspend};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, by_id, find, named, refuse_suspended_below};
use crate::files::fresh;
use crate::mirror::swap::{Before, put, remove_below};
use crate::parts::{New, Usage};
use crate::turn::turn;
use crate::watch::{Watch, go_on};

/// Which leg to replace, and how.
#[derive(Clone, Debug, Default)]
pub struct Replace {
    /// The set, by its name or the path of its file.
    pub name: String,
    /// The leg: its place from 0, or its image or device.
    pub leg: String,
    /// What takes its place: a file, an attached image or a mapped device.
    pub image: PathBuf,
    /// Overwrites what the image holds.
    pub force: bool,
    /// Waits until it is filled.
    pub waits: bool,
}

/// What is to be done.
pub(super) struct Plan {
    device: Device,
    /// The line as it is, and is to stay but for the leg.
    line: Line,
    leg: usize,
    new: New,
    /// Where the leg's data lies.
    data: Stretch,
    /// That of the set, where its legs have one.
    label: Option<Label>,
    /// What the new leg's devices are called at first, and at the end.
    names: Names,
    last_names: Names,
}

/// Replaces a leg of a set.
///
/// # Errors
/// Where others lack some of the data, a step fails, or `watch` interrupts it: before the new leg is in
/// use all is as it was, and after that the fault says how it stands.
pub fn replace(dm: &mut dyn DeviceMapper, ask: &Replace, watch: &dyn Watch) -> Result<(), Fault> {
    let plan = {
        let _turn = turn(dm, &ask.name, watch)?;
        let plan = plan(dm, ask)?;
        carry_out(dm, &plan, watch)?;
        plan
    };
    if !ask.waits {
        return Ok(());
    }
    let name = plan.device.name();
    // Others that are not there were known not to be.
    let status = look_at(dm, name)?.status;
    let gone = (0..status.legs.len()).filter(|leg| {
        *leg != plan.leg && matches!(status.legs[*leg], LegHealth::Failed | LegHealth::Missing)
    });
    let gone: Vec<usize> = gone.collect();
    until_synced(dm, name, &plan.line, &gone, watch)
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Replace) -> Result<Plan, Fault> {
    let (device, line) = redundant(dm, &ask.name)?;
    refuse_md(&device)?;
    let name = device.name();
    advice::refuse_without_metadata(name, &line)?;
    device.refuse_suspended()?;
    device.refuse_unready()?;
    refuse_suspended_below(dm, &device)?;
    let leg = leg_of(dm, name, &line, &ask.leg)?;
    let lengths = line.lengths(device.size()).map_err(|why| Fault::new(name, why))?;
    let status = look_at(dm, name)?.status;
    refuse_unsynced(dm, name, &line, lengths.device, leg, &status)?;
    let image = image_there(dm, name, &ask.image, Usage::ALONE, "`truncate -s SIZE` makes one")?;
    let label = label_of(dm, &line)?;
    let data = stretch_of(name, label, line.legs.len(), lengths.device)?;
    refuse_small(&image, &data)?;
    refuse_other_sectors(dm, name, image.block, &image.about)?;
    if !ask.force {
        refuse_full(&image.new.path, &image.about)?;
    }
    let last_names = Names::of(name, leg);
    last_names.refuse_left(dm)?;
    let names = match last_names.refuse_taken(dm) {
        Ok(()) => last_names.clone(),
        Err(_) => Names::of_new(name, leg),
    };
    names.refuse_taken(dm)?;
    let label = label.map(|label| label.of_leg(leg));
    Ok(Plan { new: image.new, data, label, line, leg, names, last_names, device })
}

/// Reads the label of a set from the first image that has one.
pub(super) fn label_of(dm: &mut dyn DeviceMapper, line: &Line) -> Result<Option<Label>, Fault> {
    let mut damaged = None;
    for leg in &line.legs {
        let Some(path) = file_of(dm, number(leg.data.as_ref()))? else { continue };
        // One that cannot be read is perhaps why it is replaced.
        let Ok(file) = fresh(&path, Access::ReadOnly) else { continue };
        match Label::read(&file) {
            Ok(None) => {}
            Ok(label) => return Ok(label),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                damaged = damaged.or(Some(Fault::new(path.display(), error)));
            }
            Err(_) => {}
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// Says where the data of each leg lies, by the label of a set of so many legs with so much data.
pub(super) fn stretch_of(
    about: impl Display,
    label: Option<Label>,
    legs: usize,
    data: Sectors,
) -> Result<Stretch, Fault> {
    let Some(ring) = label.and_then(|label| label.ring()) else {
        return Ok(Stretch::whole(data));
    };
    let stretch = ring.stretch(legs).filter(|_| ring.data() == data);
    stretch.ok_or_else(|| {
        let (own, of) = (ring.data(), ring.legs());
        let why = format!(
            "its label tells of {of} legs with {own} sectors of data, and the set has {legs} with {data}: \
             where its data lies is not known"
        );
        Fault::new(about, why)
    })
}

/// Refuses to take a leg away whose data others lack.
fn refuse_unsynced(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    device: Sectors,
    leg: usize,
    status: &Status,
) -> Result<(), Fault> {
    let refuse = |why: String| Err(Fault::new(name, why));
    match status.action {
        Action::Idle if status.done == status.total => {}
        // Of this leg, that is: of others, see below.
        Action::Recover => {}
        Action::Check => {
            let stop = "is being checked: wait, or `dmsim message {} 0 idle` breaks it off";
            return refuse(stop.replace("{}", name));
        }
        Action::Idle | Action::Frozen | Action::Resync | Action::Repair | Action::Reshape => {
            return refuse(format!("is not in sync yet: `dmsim wait --sync {name}` first"));
        }
    }
    let is = |health: LegHealth| move |other: &usize| status.legs[*other] == health;
    let mut others = (0..line.legs.len()).filter(|other| *other != leg);
    let behind = others.clone().find(is(LegHealth::Behind));
    if let Some(other) = behind {
        let why = format!("leg {other} is not in sync: `dmsim wait --sync {name}` first");
        return refuse(why);
    }
    let is_lost = |other: usize| other == leg || status.legs[other] != LegHealth::InSync;
    match layout(line, device) {
        Some(layout) if has_all(&layout, is_lost) => Ok(()),
        _ => {
            let gone = others.find(|other| status.legs[*other] != LegHealth::InSync);
            let first = match gone {
                Some(other) => format!(
                    ", as leg {other} is not in sync. First, {}",
                    advice::of_leg(dm, name, status, other)?
                ),
                None => String::new(),
            };
            refuse(match line.kind.family().parities() {
                0 => format!("leg {leg} is the only one that has some of the data{first}"),
                _ => {
                    let level = level(line.kind);
                    format!("leg {leg} is one more than a {level} can do without{first}")
                }
            })
        }
    }
}

/// Refuses an image whose sectors are not as long as the set's.
pub(super) fn refuse_other_sectors(
    dm: &mut dyn DeviceMapper,
    name: &str,
    block: u32,
    about: &str,
) -> Result<(), Fault> {
    let own = dm.describe()?.into_iter().find(|described| described.name == name);
    match own.map(|own| own.limits.logical_block_size) {
        Some(own) if own < block => {
            let why = format!("has sectors of {block} bytes, and `{name}` of {own}");
            Err(Fault::new(about, why))
        }
        Some(_) | None => Ok(()),
    }
}

/// Puts the new leg in its place, or leaves everything as it was; once it is there, it goes on.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = plan.device.name();
    Done::or_undo(
        dm,
        |dm| as_it_was(dm, "no leg was replaced", name),
        |dm, done| swap_in(dm, plan, done, watch),
    )?;
    settle(dm, &plan.device, &plan.line(true), plan.device.size()).map_err(|fault| {
        if is_gone(dm, name) {
            return Fault::new(name, format!("the new leg is in its place, and {KEPT}"));
        }
        let why = format!(
            "the new leg is in its place, and is filled: {fault}. Its table still has `rebuild {}`, \
             which would begin anew at a restart: `dmsim heal {name}` takes it out",
            plan.leg
        );
        Fault::new(name, why)
    })?;
    clear_up(dm, plan).map_err(|fault| {
        let why = format!("the new leg is in its place, and is filled; but {fault}");
        Fault::new(name, why)
    })
}

/// Says how a set is where a change was undone, which `none` names: as it was, if it is there.
pub(super) fn as_it_was(dm: &mut dyn DeviceMapper, none: &str, name: &str) -> String {
    match is_gone(dm, name) {
        true => format!("{none}, and {KEPT}"),
        false => format!("{none}, and `{name}` is as it was"),
    }
}

/// Tells whether somebody has removed a set meanwhile.
pub(super) fn is_gone(dm: &mut dyn DeviceMapper, name: &str) -> bool {
    matches!(find(dm, name), Ok(None))
}

impl Plan {
    fn line(&self, rebuild: bool) -> Line {
        let mut line = self.line.clone();
        line.legs[self.leg] = self.names.words();
        line.params.rebuild = rebuild.then_some(self.leg).into_iter().collect();
        line
    }
}

/// Makes the devices of the new leg, and puts it into the set.
fn swap_in(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    done.label(&plan.new.path, plan.label)?;
    done.leg(dm, &plan.names, &plan.new.word, &plan.data, Access::ReadWrite)?;
    swap(dm, &plan.device, &table(&plan.line(true), plan.device.size()), watch)
}

/// Puts another table into a set that is in use, or leaves it as it was.
pub(super) fn swap(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    new: &[TargetSpec],
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = device.name();
    go_on(name, watch)?;
    let before = Before {
        name: name.to_owned(),
        access: device.access(),
        table: device.live.clone(),
        below: None,
        log: None,
    };
    // Superblocks are read as a table is loaded: what the set writes has to be in them.
    let swapped = suspend(dm, name).and_then(|()| {
        go_on(name, watch)?;
        put(dm, name, device.access(), new, None)
    });
    swapped.map_err(|fault| match before.bring_back(dm, new) {
        // Nothing is there to be brought back.
        Err(_) if is_gone(dm, name) => fault,
        Ok(()) => fault,
        undone => fault.undone(undone, ""),
    })
}

/// Takes what asks for something to begin out of the table of a set, `rebuild` or a reshape: its
/// superblocks know of it by now.
pub(super) fn settle(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    now: &Line,
    len: Sectors,
) -> Result<(), Fault> {
    let name = device.name();
    let mut last = now.clone();
    last.params.rebuild.clear();
    (last.params.delta_disks, last.params.data_offset) = (None, None);
    let (now, last) = (table(now, len), table(&last, len));
    let before = Before {
        name: name.to_owned(),
        access: device.access(),
        table: now,
        below: None,
        log: None,
    };
    suspend(dm, name)
        .and_then(|()| put(dm, name, device.access(), &last, None))
        .or_else(|fault| before.bring_back(dm, &last).and(Err(fault)))
}

/// Removes the devices of the old leg that were made for it, and gives the new ones their names.
fn clear_up(dm: &mut dyn DeviceMapper, plan: &Plan) -> Result<(), Fault> {
    let old = &plan.line.legs[plan.leg];
    for dev in [number(old.meta.as_ref()), number(old.data.as_ref())].into_iter().flatten() {
        if let Some(device) = by_id(dm, Id::Dev(dev))?
            && is_ours(&device.status.uuid)
        {
            remove_below(dm, device.name())?;
        }
    }
    if plan.names == plan.last_names {
        return Ok(());
    }
    let pairs =
        [(&plan.names.meta, &plan.last_names.meta), (&plan.names.data, &plan.last_names.data)];
    pairs.into_iter().try_for_each(|(from, to)| take_name(dm, from, to))
}

/// Gives a device its name, if that is free: a device that was not made here keeps its own.
pub(super) fn take_name(dm: &mut dyn DeviceMapper, from: &str, to: &str) -> Result<(), Fault> {
    if find(dm, to)?.is_some() {
        return Ok(());
    }
    let new = NewName::Name(to.to_owned());
    act(dm, from, Command::DevRename { id: named(from), new }).map(drop)
}
