//! `dmsim raid assemble`: puts a set together again from what its images say.

mod ask;
mod member;

use std::path::PathBuf;

use daemon::Fault;
use sim_core::{Access, Sectors};
use targets::lines::raid::{Family, Kind, MAX_LEGS, Params, Synchronize};
use targets::raid::bitmap::{HEADER, OFFSET};
use targets::raid::layout::{Layout, Raid10};
use targets::raid::superblock::DONE;

use super::create::refuse_there;
use super::leg::journal::{self, Journal};
use super::leg::label::Label;
use super::leg::marked::marked_in;
use super::leg::ring::Stretch;
use super::leg::{Image, MISSING, Names, image_there, refuse_twice};
use super::level::level;
use super::md;
use super::replace::stretch_of;
use super::state::{Line, has_all, layout, table};
use super::steps::Done;
use super::wait::until_synced;
use crate::commands::suspend;
use crate::device_mapper::DeviceMapper;
use crate::files::{fresh, unwritable};
use crate::mirror::swap::put;
use crate::size::print_size;
use crate::turn::turn;
use crate::watch::{Watch, go_on};
use crate::words::new_name;
pub(super) use ask::read_only_without;
pub use ask::{Assemble, Assembled, Writes};
use member::{
    Found, Member, Reshape, is_late, member, refuse_early, refuse_parted, refuse_stale,
    refuse_stranger,
};

/// An image in its place.
struct Seat {
    place: usize,
    image: Image,
    label: Option<Label>,
    /// It is being rebuilt.
    behind: bool,
}

/// What is to be done.
pub(super) struct Plan {
    pub(super) name: String,
    /// By the places of the legs.
    legs: Vec<Option<Seat>>,
    /// How much of a leg is in use.
    device: Sectors,
    len: Sectors,
    line: Line,
    journal: Option<Journal>,
    /// No bitmap is there, as with a set that was made with a journal.
    has_no_bitmap: bool,
    /// That of the set, where its legs have one.
    label: Option<Label>,
    /// A reshape was cut off as it began: a leg knows nothing of it yet, and a line asks for it again.
    asks: Option<Reshape>,
    /// The legs that are missing, or not in sync.
    lost: Vec<usize>,
    /// Those that are a little behind the others, and are rebuilt.
    late: Vec<usize>,
    /// Without all legs, so much was marked in the bitmap when the set was used last.
    marked: Option<Sectors>,
    /// Its parity was never made right, and somebody takes it all the same.
    forced: bool,
    access: Access,
}

/// Puts a set together again: one of `dmsim raid create`, an array of md, or a volume of a BIOS's set.
///
/// # Errors
/// Where the images do not fit one another, lack too much, or `watch` interrupts it: all is as it
/// was, or the fault says what is not.
pub fn assemble(
    dm: &mut dyn DeviceMapper,
    ask: &Assemble,
    watch: &dyn Watch,
) -> Result<Assembled, Fault> {
    let _turn = turn(dm, &ask.name, watch)?;
    if let Some(array) = md::assemble(dm, ask, watch)? {
        return Ok(array);
    }
    let plan = plan(dm, ask)?;
    for leg in plan.missing() {
        watch.warn(&format!("{}: leg {leg} is missing", plan.name));
    }
    if let (Writes::WhereWhole, Access::ReadOnly, Some(leg)) =
        (ask.writes, plan.access, plan.missing().next())
    {
        watch.warn(&format!("{}: {}", plan.name, read_only_without("leg", leg)));
    }
    for leg in &plan.late {
        watch.warn(&format!(
            "{}: leg {leg} is a little behind the others: a crash cut it off, or it is an old copy. It is \
             rebuilt",
            plan.name
        ));
    }
    if let Some(marked) = plan.marked {
        watch.warn(&format!(
            "{}: {} were marked as being written when not all legs were there: where that ended in a \
             crash, what they had may be wrong (the write hole); check the file system",
            plan.name,
            print_size(marked.bytes())
        ));
    }
    carry_out(dm, &plan, watch)?;
    Ok(Assembled { file: dm.mount().join(&plan.name), told: Vec::new() })
}

/// Checks what is asked for. Nothing is changed yet.
pub(super) fn plan(dm: &mut dyn DeviceMapper, ask: &Assemble) -> Result<Plan, Fault> {
    let name = new_name("raid assemble", &ask.name)?;
    refuse_there(dm, &name)?;
    let (mut members, mut blanks, mut news) = (Vec::new(), Vec::new(), Vec::new());
    for typed in &ask.images {
        let left_out = "one leg that is missing may be left out, or more, as the level has it";
        let image = image_there(dm, &name, typed, ask.usage(), left_out)?;
        news.push(image.new.clone());
        let is_written = ask.writes != Writes::Refused;
        let barred = unwritable(&image.new.path).filter(|_| is_written);
        let barred = barred.map(|error| cannot_be_written(&image, &error));
        match member(image)? {
            Found::Member(member) => members.push(*member),
            Found::Blank(blank) => blanks.push(blank),
        }
        barred.map_or(Ok(()), Err)?;
    }
    let freshest = members.iter().rev().max_by_key(|member| member.superblock.events);
    let freshest = freshest
        .ok_or_else(|| Fault::new("raid assemble", "expected an image with a superblock"))?;
    let label = members.iter().find_map(Member::label);
    let journal = match &ask.journal {
        Some(typed) => Some(Journal::of(dm, &name, typed, label, ask.force)?),
        None => None,
    };
    news.extend(journal.iter().map(|journal| journal.image().new.clone()));
    let typed: Vec<PathBuf> = ask.images.iter().chain(&ask.journal).cloned().collect();
    refuse_twice(&news.iter().collect::<Vec<_>>(), &typed)?;
    members.iter().try_for_each(|member| refuse_stranger(freshest, member))?;
    refuse_parted(&members)?;
    members.iter().try_for_each(|member| refuse_stale(freshest, member))?;
    let devices = freshest.superblock.devices as usize;
    let (device, moves) = (freshest.device(), freshest.reshape());
    let shown = Sectors(freshest.extension.array_sectors);
    let mut line = line_of(freshest, devices)?;
    let mut before = line.clone();
    before.legs.truncate(moves.map_or(devices, |moves| moves.before));
    let fits = layout(&before, device).filter(|layout| layout.len() == shown);
    let fits = fits.and_then(|_| layout(&line, device));
    let fits = fits.ok_or_else(|| Fault::new(&name, "its superblocks tell of no possible set"))?;
    let len = fits.len();
    set_region_size(&mut line, freshest, len);
    blanks.iter().try_for_each(|blank| refuse_early(freshest, blank))?;
    let asks = moves.filter(|_| !blanks.is_empty());
    // While data moves, or has just moved, superblocks differ in more than that.
    let moved = members.iter().any(|member| member.extension.reshape.is_some());
    let late = members.iter().filter(|member| !moved && is_late(freshest, member));
    let late: Vec<usize> = late.map(|member| member.superblock.position as usize).collect();
    let has_no_bitmap = line.kind.family().parities() > 0 && freshest.bitmap.is_none();
    let failed = freshest.superblock.failed;
    let is_dirty = freshest.superblock.resync_offset != DONE;
    let marked = marked_in(&fresh(&freshest.image.new.path, Access::ReadOnly)?);
    let seats = members.into_iter().map(Seat::from).chain(blanks.into_iter().map(Seat::from));
    let legs = seated(seats, devices, device)?;
    let is_lost = |leg: usize| match &legs[leg] {
        None => true,
        Some(seat) => seat.behind || failed.has(leg),
    };
    // Without any redundancy, no leg of a raid0 is out of sync.
    let lacks = match line.kind.family() {
        Family::Raid0 => !has_all(&fits, |leg| legs[leg].is_none()),
        _ => !has_all(&fits, is_lost),
    };
    let missing: Vec<usize> = (0..devices).filter(|leg| legs[*leg].is_none()).collect();
    if lacks {
        let there = devices - missing.len();
        let why = format!(
            "lacks some of its data: {there} of the {devices} legs are there, and those in sync \
             among them have not all of it{}",
            name_too(&missing)
        );
        return Err(Fault::new(&name, why));
    }
    let is_forgotten = missing.iter().any(|leg| !failed.has(*leg));
    let access = match ask.writes {
        Writes::WhereWhole if is_forgotten => Access::ReadOnly,
        writes => writes.access(),
    };
    if access.is_read_only() && asks.is_some() {
        let why =
            "was about to get another shape, and would begin that: it is not opened read-only";
        return Err(Fault::new(&name, why));
    }
    let lost: Vec<usize> = (0..devices).filter(|leg| is_lost(*leg)).collect();
    let lacks_parity = matches!(fits, Layout::Parity(_)) && !lost.is_empty();
    let forced = lacks_parity && is_dirty;
    if forced && !ask.force {
        let why = format!(
            "is a {} whose parity was never made right as a whole, so that it does not tell what a \
             missing leg had{}; --force takes it all the same, and some of the data for lost",
            level(line.kind),
            name_too(&missing)
        );
        return Err(Fault::new(&name, why));
    }
    let is_marked = marked.is_some_and(|marked| !marked.is_zero());
    let late = match line.kind.family() {
        // One leg alone has what counts before the first resync is over.
        Family::Raid0 => Vec::new(),
        _ if is_dirty => Vec::new(),
        // What is being written is in no parity.
        family if family.parities() > 0 && is_marked && !late.is_empty() && !ask.force => {
            return Err(refuse_late(&name, &late));
        }
        family if family.parities() > 0 && is_marked => Vec::new(),
        _ if has_all(&fits, |leg| is_lost(leg) || late.contains(&leg)) => late,
        _ if ask.force => Vec::new(),
        _ => return Err(refuse_late(&name, &late)),
    };
    for (leg, member) in legs.iter().enumerate() {
        if member.is_some() {
            Names::of(&name, leg).refuse_taken(dm)?;
            line.legs[leg] = Names::of(&name, leg).words();
        }
    }
    line.params.journal_dev = journal.is_some().then(|| journal::word(&name));
    let marked = marked.filter(|marked| lacks_parity && !marked.is_zero());
    Ok(Plan {
        name,
        legs,
        device,
        len,
        line,
        journal,
        has_no_bitmap,
        label,
        asks,
        lost,
        late,
        marked,
        forced,
        access,
    })
}

/// Refuses an image that is shorter than its leg. Zeros at its end would be no data of the set.
fn refuse_cut_off(seat: &Seat, data: &Stretch) -> Result<(), Fault> {
    let (needed, Image { about, size, .. }) = (data.needs(), &seat.image);
    if *size >= needed {
        return Ok(());
    }
    let (has, needs) = (print_size(size.bytes()), print_size(needed.bytes()));
    let why = format!(
        "is too small: it has {has}, and leg {} with its data {needs}. It was cut short, or is the metadata alone of \
         a set that a table made: such a table (`dmsim create --table`) puts that together again",
        seat.place
    );
    Err(Fault::new(about, why))
}

/// Says that a leg would be lost with the first write: the set writes all of its superblocks.
fn cannot_be_written(image: &Image, error: &std::io::Error) -> Fault {
    let why = format!(
        "cannot be written: {error}. The set would go on without this leg: make it writable (`chmod`, `mount -o \
         remount,rw`), or leave it out"
    );
    Fault::new(&image.about, why)
}

/// Says that nobody knows which of the legs are right.
fn refuse_late(name: &str, late: &[usize]) -> Fault {
    let late: Vec<String> = late.iter().map(usize::to_string).collect();
    let why = format!(
        "of the legs, these are a little behind the others, which cannot make up for them: {}. If they are \
         old copies, leave them out or find the later ones; if a crash cut them off, --force takes them as \
         they are",
        late.join(", ")
    );
    Fault::new(name, why)
}

/// Puts images into the places of their legs.
fn seated(
    seats: impl Iterator<Item = Seat>,
    devices: usize,
    device: Sectors,
) -> Result<Vec<Option<Seat>>, Fault> {
    let mut legs: Vec<Option<Seat>> = (0..devices).map(|_| None).collect();
    for seat in seats {
        let (place, about) = (seat.place, &seat.image.about);
        refuse_cut_off(&seat, &stretch_of(about, seat.label, devices, device)?)?;
        match legs.get_mut(place) {
            Some(leg @ None) => *leg = Some(seat),
            Some(Some(other)) => {
                let why = format!("is leg {place}, as is {}: leave one out", other.image.about);
                return Err(Fault::new(about, why));
            }
            None => {
                let why = format!("is leg {place} of a set of {devices}");
                return Err(Fault::new(about, why));
            }
        }
    }
    Ok(legs)
}

/// Says which legs to name as well.
fn name_too(missing: &[usize]) -> String {
    match missing {
        [] => String::new(),
        [leg] => format!(": name the image of leg {leg}, too"),
        legs => {
            let legs: Vec<String> = legs.iter().map(usize::to_string).collect();
            format!(": name the images of more of the legs {}, too", legs.join(", "))
        }
    }
}

/// Makes the line of a set, still without devices.
fn line_of(freshest: &Member, devices: usize) -> Result<Line, Fault> {
    let geometry = freshest.superblock.geometry;
    let refuse = |why: String| Err(Fault::new(&freshest.image.about, why));
    if !(1..=MAX_LEGS).contains(&devices) {
        return refuse(format!("is of a set of {devices} legs: expected 1 to {MAX_LEGS}"));
    }
    let (kind, params) = match (geometry.level, Raid10::parse(geometry.layout)) {
        (0, _) => (Kind::Raid0, Params::default()),
        (1, _) => (Kind::Raid1, Params::default()),
        (10, Some((format, copies, sets))) => {
            let params = Params {
                raid10_copies: Some(copies),
                raid10_format: Some(format),
                raid10_use_near_sets: format != targets::raid::layout::Format::Near && !sets,
                ..Params::default()
            };
            (Kind::Raid10, params)
        }
        (level, _) => match Kind::of(level, geometry.layout) {
            Some(kind) => (kind, Params::default()),
            None => {
                let layout = geometry.layout;
                let why =
                    format!("is of a raid{level} of layout {layout}, which no table can name");
                return refuse(why);
            }
        },
    };
    let chunk = Sectors(geometry.chunk_sectors.into());
    let legs = vec![MISSING; devices];
    Ok(Line { kind, chunk, params, legs })
}

/// Names the region size in the line, where the bitmap has another than the usual one.
fn set_region_size(line: &mut Line, freshest: &Member, len: Sectors) {
    if let Some(bitmap) = freshest.bitmap.as_ref().filter(|_| line.kind != Kind::Raid0) {
        let region = Sectors(u64::from(bitmap.chunk_bytes) / sim_core::SECTOR_SIZE);
        line.params.region_size = (region != line.region_size(len)).then_some(region);
    }
}

impl Plan {
    /// Lists the legs that are missing.
    fn missing(&self) -> impl Iterator<Item = usize> {
        let legs = self.legs.iter().enumerate();
        legs.filter(|(_, leg)| leg.is_none()).map(|(place, _)| place)
    }
}

/// Puts the set together, or leaves everything as it was.
pub(super) fn carry_out(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let end = |_: &mut dyn DeviceMapper| "no set was put together, and all is as it was".to_owned();
    let made = Done::or_undo(dm, end, |dm, done| forward(dm, plan, done, watch));
    made.map_err(|fault| match plan.journal.is_none() && plan.has_no_bitmap {
        true => {
            let hint = "Where it was made with a journal, --journal names its image";
            Fault { why: format!("{}. {hint}", fault.why), ..fault }
        }
        false => fault,
    })
}

/// Makes a set that gets another journal known by a new label: the old one, which may turn up again, has what is
/// older from now on. And takes its bitmaps away, so that it does not start without the journal.
fn renew(plan: &Plan, done: &mut Done) -> Result<Label, Fault> {
    let set = Label::new()?;
    for Seat { image, label, .. } in plan.legs.iter().flatten() {
        let path = &image.new.path;
        done.label(path, Some(label.map_or(set, |label| label.of_set(set))))?;
        done.bytes(path, OFFSET, &[0; HEADER])?;
    }
    Ok(set)
}

fn forward(
    dm: &mut dyn DeviceMapper,
    plan: &Plan,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let Plan { name, .. } = plan;
    for (leg, member) in plan.legs.iter().enumerate() {
        if let Some(Seat { image, label, .. }) = member {
            go_on(name, watch)?;
            let data = stretch_of(&image.about, *label, plan.legs.len(), plan.device)?;
            done.leg(dm, &Names::of(name, leg), &image.new.word, &data, plan.access)?;
        }
    }
    go_on(name, watch)?;
    if let Some(journal) = &plan.journal {
        let label = if journal.is_new() { Some(renew(plan, done)?) } else { plan.label };
        journal.carry_out(dm, name, label, done)?;
    }
    let mut first = plan.line.clone();
    if plan.forced {
        first.params.synchronize = Synchronize::Everything;
    }
    if let Some(Reshape { before, room }) = plan.asks {
        first.params.delta_disks = Some((plan.legs.len() - before) as i32);
        first.params.data_offset = Some(room);
    }
    first.params.rebuild = plan.late.iter().copied().collect();
    done.device_as(dm, name, table(&first, plan.len), plan.access)?;
    match () {
        // Nothing is rebuilt.
        () if plan.access.is_read_only() => return Ok(()),
        // A table with `sync` would start any set that is open later.
        () if plan.forced => until_synced(dm, name, &plan.line, &plan.lost, watch)?,
        // One that asks for a reshape would start none.
        () if plan.asks.is_some() => {}
        // And one with `rebuild` would begin it anew at each start.
        () if !plan.late.is_empty() => {}
        () => return Ok(()),
    }
    suspend(dm, name)?;
    put(dm, name, Access::ReadWrite, &table(&plan.line, plan.len), None)
}
