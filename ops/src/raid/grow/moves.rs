//! More legs for a set whose data moves onto them: raid4, raid5, raid6, raid10.
//!
//! Data moves back by the room in front of it, so each leg's data gets a device that begins earlier
//! (`leg/ring.rs`). First the images are made longer, then the labels say how data lies before and after;
//! which of the two holds, the superblocks tell by the number of legs. The table that asks for the reshape
//! writes them; from then on there is no way back, and the next table lets it run.

use daemon::Fault;
use sim_core::control::Id;
use sim_core::{Access, DevNumber, Sector, Sectors};
use targets::lines::DeviceWord;
use targets::lines::raid::Family;
use targets::raid::layout::Format;
use targets::raid::superblock::Superblock;

use super::super::leg::label::Label;
use super::super::leg::ring::{Ring, Stretch};
use super::super::leg::{Image, META, Names, heads, places};
use super::super::level::level;
use super::super::remove::is_ours;
use super::super::replace::{as_it_was, is_gone, label_of, settle, stretch_of, swap, take_name};
use super::super::state::{Line, layout, number, table};
use super::super::steps::Done;
use super::super::wait::KEPT;
use super::{Grow, new_legs};
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, by_id, find};
use crate::files::path_of;
use crate::mirror::swap::remove_below;
use crate::parts::{New, size_of};
use crate::size::print_size;
use crate::watch::{Watch, go_on};
use crate::words::MAPPER;

/// How much room there is in front of the data: with more than the target moves at a time (1 MiB of each
/// leg), superblocks are written no more often than they have to be.
const ROOM: Sectors = Sectors(8 << 11);

/// What is to be done.
pub(in super::super) struct Plan {
    pub(super) device: Device,
    /// The line as it is.
    line: Line,
    legs: Vec<Old>,
    new: Vec<(New, Names)>,
    /// How data lies then, and what set it is.
    ring: Ring,
    label: Label,
    pub(super) becomes: Sectors,
}

/// A leg that there is.
struct Old {
    image: New,
    /// Its data's device, and the one that takes its place.
    now: String,
    then: String,
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(
    dm: &mut dyn DeviceMapper,
    ask: &Grow,
    device: Device,
    line: Line,
) -> Result<Plan, Fault> {
    let name = device.name();
    refuse_line(name, &line)?;
    let data = line.lengths(device.size()).map_err(|why| Fault::new(name, why))?.device;
    let found = label_of(dm, &line)?;
    let now = stretch_of(name, found, line.legs.len(), data)?;
    let mut legs = Vec::new();
    for leg in 0..line.legs.len() {
        legs.push(old_leg(dm, name, &line, leg, data, &now)?);
    }
    let images = new_legs(dm, ask, name, line.legs.len(), &Stretch::whole(data))?;
    let all = line.legs.len() + images.len();
    let ring = found.and_then(|label| label.ring());
    let ring = ring.unwrap_or_else(|| Ring::new(data, room(&line), line.legs.len()));
    let ring = ring.grown(line.legs.len(), all);
    let ring = ring.ok_or_else(|| Fault::new(name, "its label is of another number of legs"))?;
    let needed = Stretch::needs(&ring.stretch(all).expect("it is made for so many"));
    for leg in &legs {
        let size = size_of(dm, &leg.image)?.map(|(size, _)| size).unwrap_or_default();
        refuse_without_room(&leg.image, &leg.image.path.display().to_string(), size, needed)?;
    }
    for (Image { new, about, size, .. }, _) in &images {
        refuse_without_room(new, about, *size, needed)?;
    }
    let new = images.into_iter().map(|(image, names)| (image.new, names)).collect();
    let label = found.map_or_else(Label::new, Ok)?;
    let mut plan = Plan { legs, new, ring, label, becomes: Sectors::ZERO, line, device };
    let name = plan.device.name();
    let becomes = layout(&plan.last(), data).map(|layout| layout.len());
    plan.becomes = becomes.ok_or_else(|| Fault::new(name, "no set can be laid out so"))?;
    // What the target will say of the parameters, before anything is done.
    Line::from_text(&plan.asking().to_string(), plan.becomes)
        .map_err(|error| Fault::new(name, error))?;
    Ok(plan)
}

/// Refuses a set that is not reshaped.
fn refuse_line(name: &str, line: &Line) -> Result<(), Fault> {
    let refuse = |why: &str| Err(Fault::new(name, why));
    let params = &line.params;
    match () {
        () if params.delta_disks.is_some() || params.data_offset.is_some() => {
            let why = format!(
                "has a table that still asks for its last reshape: `dmsim heal {name}` first"
            );
            Err(Fault::new(name, why))
        }
        () if params.raid10_format == Some(Format::Far) => {
            refuse("is a raid10 with far copies, which the kernel moves as little")
        }
        () if params.journal_dev.is_some() => refuse(
            "has a journal (`journal_dev`), and the kernel reshapes no set that has one: load its table without, \
             first; one that was made with it has no bitmap, and does not start without: make a larger set, and copy",
        ),
        () => Ok(()),
    }
}

/// Returns how much room there is to be: more than what the target moves at least between any two numbers of
/// legs, and whole chunks.
fn room(line: &Line) -> Sectors {
    let rows = match line.kind.family() {
        Family::Raid10 => 2 * (line.copies() as u64 + 1),
        _ => 2,
    };
    Sectors((rows * line.chunk.0).max(ROOM.0).next_multiple_of(line.chunk.0.max(1)))
}

/// Finds what a leg lies on, and refuses one that was not made by `raid create`.
fn old_leg(
    dm: &mut dyn DeviceMapper,
    name: &str,
    line: &Line,
    leg: usize,
    len: Sectors,
    now: &Stretch,
) -> Result<Old, Fault> {
    let parts = &line.legs[leg];
    let [data, meta] = [&parts.data, &parts.meta].map(|word| number(word.as_ref()));
    let [data, meta] = [device_of(dm, data)?, device_of(dm, meta)?];
    let refuse = || {
        let level = level(line.kind);
        let why = format!(
            "leg {leg} does not lie on an image as `dmsim raid create` has it: the data of such a {level} \
             moves by tables, with `delta_disks` (docs/src/reshape.md)"
        );
        Fault::new(name, why)
    };
    let (data, meta) = data.zip(meta).ok_or_else(refuse)?;
    let image = image_below(&data, |sector, len, image| now.lies(sector, len, image));
    let own = image_below(&meta, |_, len, image| image == Sector::ZERO && len == META);
    let image = image.filter(|image| own == Some(*image) && data.size() >= len);
    let dev = image.ok_or_else(refuse)?;
    let path = path_of(dm, dev)?;
    let word = match by_id(dm, Id::Dev(dev))? {
        Some(mapped) => DeviceWord(format!("{MAPPER}{}", mapped.name())),
        None => dev.into(),
    };
    let then = free_name(dm, name, leg)?;
    Ok(Old { image: New { word, path, dev: Some(dev) }, now: data.status.name, then })
}

/// Finds a device of a leg that was made here.
fn device_of(
    dm: &mut dyn DeviceMapper,
    number: Option<DevNumber>,
) -> Result<Option<Device>, Fault> {
    let Some(number) = number else { return Ok(None) };
    Ok(by_id(dm, Id::Dev(number))?.filter(|device| is_ours(&device.status.uuid)))
}

/// Returns the image that all of a device lies on, if each part `lies` as it is to.
fn image_below(
    device: &Device,
    lies: impl Fn(Sector, Sectors, Sector) -> bool,
) -> Option<DevNumber> {
    let places = places(device)?;
    let image = places.first()?.1.device.number()?;
    let fits = places.iter().all(|(line, place)| {
        place.device.number() == Some(image) && lies(line.start, line.len, place.start)
    });
    fits.then_some(image)
}

/// Finds a name for the next device of a leg's data.
fn free_name(dm: &mut dyn DeviceMapper, name: &str, leg: usize) -> Result<String, Fault> {
    let both = [Names::of(name, leg), Names::of_new(name, leg)];
    for names in &both {
        if find(dm, &names.data)?.is_none() {
            return Ok(names.data.clone());
        }
    }
    both.iter().try_for_each(|names| names.refuse_left(dm))?;
    let [own, other] = both.map(|names| names.data);
    Err(Fault::new(
        own,
        format!("is there, and `{other}` too: a leg's device is to have one of the two names"),
    ))
}

/// Refuses an image that is too small, and no file that is made larger here.
fn refuse_without_room(
    image: &New,
    about: &str,
    size: Sectors,
    needed: Sectors,
) -> Result<(), Fault> {
    let is_file = !image.word.0.starts_with(MAPPER)
        && image.path.metadata().is_ok_and(|found| found.is_file());
    if is_file || size >= needed {
        return Ok(());
    }
    let (has, needs) = (print_size(size.bytes()), print_size(needed.bytes()));
    let why = format!(
        "has {has}, and {needs} are needed, as data moves back by the room in front of it: make the device \
         larger first"
    );
    Err(Fault::new(about, why))
}

impl Plan {
    /// Returns the line that is to stay.
    pub(super) fn last(&self) -> Line {
        let mut line = self.line.clone();
        for (leg, old) in line.legs.iter_mut().zip(&self.legs) {
            leg.data = Some(DeviceWord(format!("{MAPPER}{}", old.then)));
        }
        line.legs.extend(self.new.iter().map(|(_, names)| names.words()));
        line
    }

    /// Returns the line that asks for the reshape.
    fn asking(&self) -> Line {
        let mut line = self.last();
        line.params.delta_disks = Some(self.new.len() as i32);
        line.params.data_offset = Some(self.ring.room());
        line
    }

    /// Tells whether a superblock knows of the new legs, or may. Then all goes forward alone.
    fn has_begun(&self) -> bool {
        let legs = self.line.legs.len() as u32;
        let knows = |old: &Old| match heads(&old.image.path) {
            Ok(Some((_, bytes))) => {
                Superblock::read(&bytes).is_none_or(|superblock| superblock.devices != legs)
            }
            Ok(None) | Err(_) => true,
        };
        self.legs.iter().any(knows)
    }
}

/// Lets data move, or leaves everything as it was; once it moves, it goes on.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = plan.device.name();
    let mut done = Done::default();
    if let Err(fault) = forward(dm, plan, &mut done, watch) {
        if plan.has_begun() && is_gone(dm, name) {
            return Err(Fault::new(
                name,
                format!("{fault}. The reshape may have begun, and {KEPT}"),
            ));
        }
        if plan.has_begun() {
            let why = format!(
                "{fault}. The reshape has begun, or may have, and nothing is undone: where `dmsim table {name}` \
                 says delta_disks, `dmsim heal {name}` lets it go on; else `dmsim raid remove {name}`, and \
                 `dmsim raid assemble` of all images, the new ones too"
            );
            return Err(Fault::new(name, why));
        }
        let undone = done.undo(dm);
        let end = as_it_was(dm, "no leg was added", name);
        return Err(fault.undone(undone, end));
    }
    settle(dm, &plan.device, &plan.asking(), plan.becomes).map_err(|fault| {
        if is_gone(dm, name) {
            return Fault::new(name, format!("the new legs are in their places, and {KEPT}"));
        }
        let why = format!(
            "the new legs are in their places; but {fault}. Its table asks for the reshape: `dmsim heal \
             {name}` lets it run"
        );
        Fault::new(name, why)
    })?;
    clear_up(dm, plan).map_err(|fault| {
        let why =
            format!("the new legs are in their places, and data moves onto them; but {fault}");
        Fault::new(name, why)
    })
}

fn forward(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = plan.device.name();
    let legs = plan.legs.len() + plan.new.len();
    let then = plan.ring.stretch(legs).expect("it is made for so many");
    let images =
        || plan.legs.iter().map(|old| &old.image).chain(plan.new.iter().map(|(new, _)| new));
    for (_, image) in (0..).zip(images()).filter(|(leg, _)| *leg >= plan.legs.len()) {
        done.clear_heads(&image.path)?;
    }
    // A label that speaks of room is written where there is some.
    for image in images() {
        go_on(name, watch)?;
        done.longer(dm, image, then.needs())?;
    }
    for (leg, image) in images().enumerate() {
        done.label(&image.path, Some(plan.label.in_ring(plan.ring, leg)))?;
    }
    for old in &plan.legs {
        go_on(name, watch)?;
        done.device_beside(dm, &old.then, then.table(&old.image.word))?;
    }
    for (new, names) in &plan.new {
        done.leg(dm, names, &new.word, &then, Access::ReadWrite)?;
    }
    swap(dm, &plan.device, &table(&plan.asking(), plan.becomes), watch)
}

/// Removes the devices that the legs' data had before, and gives the new ones their names.
fn clear_up(dm: &mut dyn DeviceMapper, plan: &Plan) -> Result<(), Fault> {
    for (leg, old) in plan.legs.iter().enumerate() {
        remove_below(dm, &old.now)?;
        let own = Names::of(plan.device.name(), leg).data;
        if own != old.then {
            take_name(dm, &old.then, &own)?;
        }
    }
    Ok(())
}
