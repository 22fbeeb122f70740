//! Images in memory, opened layer by layer: a dumb `dmsim open`, which holds every table to what it lies on.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io;

use recognise::partitions::layers;
use recognise::volumes::lvm2::{self, PhysicalVolume};
use recognise::volumes::{Group, Place, lvm1, plan};
use recognise::{Found, Layer, Source, probe};
use sim_core::TargetSpec;
use targets::lines::{DeviceWord, linear, mirror, raid, striped};

/// How deep layers lie on one another, and how many devices are looked at.
const DEEPEST: usize = 16;
const MOST_PROBES: usize = 64;

/// The most that is read of one device, beside what its own length allows: texts of volume groups are no longer
/// than it, and there are eight at most.
const MOST_READ: u64 = 32 << 20;

/// The longest text of the tables of one group.
const MOST_TEXT: usize = 64 << 20;

/// A device: bytes, or lines over others.
enum Device {
    Image(Vec<u8>),
    Lines(Vec<Mapped>, u64),
}

/// What a line maps onto, as far as it can be read here.
struct Mapped {
    start: u64,
    len: u64,
    onto: Onto,
}

enum Onto {
    /// In turn, each with its device and its first sector, so many sectors long; one alone is a linear one.
    Chunks(u64, Vec<(String, u64)>),
    /// Something that no model reads.
    Other,
}

/// Images, and the devices over them.
pub(crate) struct Stack {
    devices: HashMap<String, Device>,
    read: Cell<u64>,
    queue: VecDeque<(String, String, usize)>,
    volumes: Vec<(PhysicalVolume, String)>,
    members: Vec<(lvm1::Member, String)>,
    read_only: bool,
    names: Vec<String>,
}

impl Stack {
    /// Opens images to the last layer, and returns the names of the devices that were made.
    ///
    /// # Panics
    /// Where a table is not within what it lies on, or more is read than there should be.
    pub(crate) fn open(images: Vec<Vec<u8>>, read_only: bool) -> Vec<String> {
        let mut stack = Stack {
            devices: HashMap::new(),
            read: Cell::new(0),
            queue: VecDeque::new(),
            volumes: Vec::new(),
            members: Vec::new(),
            read_only,
            names: Vec::new(),
        };
        for (nr, image) in images.into_iter().enumerate() {
            let name = format!("image{nr}");
            stack.devices.insert(name.clone(), Device::Image(image));
            stack.queue.push_back((name.clone(), name, 0));
        }
        let mut probes = 0;
        loop {
            while let Some((word, base, depth)) = stack.queue.pop_front() {
                probes += 1;
                if depth <= DEEPEST && probes <= MOST_PROBES {
                    stack.look(&word, &base, depth);
                }
            }
            if !stack.groups() {
                return stack.names;
            }
        }
    }

    fn look(&mut self, word: &str, base: &str, depth: usize) {
        self.read.set(0);
        let source = Of { stack: self, word };
        let (len, found) = (source.len(), probe(&source));
        let most = MOST_READ + 9 * len;
        assert!(self.read.get() <= most, "{} bytes read of {len}", self.read.get());
        match found {
            Ok(Found::Partitions(table)) => {
                for layer in layers(&table, &DeviceWord(word.to_owned()), base) {
                    self.make(layer, depth + 1);
                }
            }
            Ok(Found::Lvm2(volume)) => self.volumes.push((*volume, word.to_owned())),
            Ok(Found::Lvm1(member)) => self.members.push((*member, word.to_owned())),
            Ok(Found::Evms(header)) => {
                assert!(header.linear().is_none_or(|sectors| sectors < len / 512), "past the end");
            }
            Ok(Found::Signature(signature)) => drop(signature.to_string()),
            Ok(Found::Image(format)) => drop(format.of_file("a file").to_string()),
            Ok(Found::Container(_) | Found::Nothing) => {}
            Err(error) => drop(error.to_string()),
        }
    }

    /// Opens the groups whose volumes were found; tells whether there were any.
    fn groups(&mut self) -> bool {
        let (volumes, words): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.volumes).into_iter().unzip();
        let (members, old_words): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.members).into_iter().unzip();
        if let Ok(found) = lvm2::groups(&volumes, &words) {
            for found in found.groups {
                let there = found.there.iter().map(|at| at.map(|at| words[at].clone()));
                self.group(&found.group, &there.collect::<Vec<_>>());
            }
        }
        if let Ok(group) = lvm1::assemble(&members) {
            let place = |id: &str| members.iter().position(|member| member.id == id);
            let there =
                group.physical.iter().map(|it| place(&it.id).map(|at| old_words[at].clone()));
            let there: Vec<_> = there.collect();
            self.group(&group, &there);
        }
        !volumes.is_empty() || !members.is_empty()
    }

    fn group(&mut self, group: &Group, there: &[Option<String>]) {
        let place = |word: &String| {
            let sectors = self.len(word).expect("it was made") / 512;
            Place { device: DeviceWord(word.clone()), sectors }
        };
        let places: Vec<Option<Place>> = there.iter().map(|it| it.as_ref().map(place)).collect();
        let plan = plan(group, &places, self.read_only);
        let text = plan.layers.iter().flat_map(|layer| &layer.lines);
        let text: usize = text.map(|line| line.params.len()).sum();
        assert!(text <= MOST_TEXT, "{text} bytes of tables");
        for layer in plan.layers {
            self.make(layer, DEEPEST / 4);
        }
    }

    /// Makes a device, and looks at it later where it is for people.
    fn make(&mut self, layer: Layer, depth: usize) {
        let word = format!("/dev/mapper/{}", layer.name);
        if self.devices.contains_key(&word) {
            return;
        }
        let (mut next, mut lines) = (0, Vec::new());
        for line in &layer.lines {
            assert_eq!(line.start.0, next, "a gap in {}", layer.name);
            assert!(line.len.0 > 0, "an empty line in {}", layer.name);
            next = next.checked_add(line.len.0).expect("sectors of a device");
            let mapped = Mapped { start: line.start.0, len: line.len.0, onto: self.onto(line) };
            lines.push(mapped);
        }
        assert!(next > 0, "{} is empty", layer.name);
        self.devices.insert(word.clone(), Device::Lines(lines, next));
        self.names.push(layer.name.clone());
        if layer.shown {
            self.queue.push_back((word, layer.name, depth));
        }
    }

    /// Reads a line, and holds each place in it to its device.
    fn onto(&self, line: &TargetSpec) -> Onto {
        let (text, len) = (&line.params, line.len);
        let held = |word: &str, start: u64, len: u64| {
            let room = self.len(word).unwrap_or_else(|| panic!("no {word}: {line}")) / 512;
            let fits = start.checked_add(len).is_some_and(|end| end <= room);
            assert!(fits, "past the {room} sectors of {word}: {line}");
        };
        match line.target_type.as_str() {
            "linear" => {
                let place = linear::Line::from_text(text, len).expect("a line").place;
                held(&place.device.0, place.start.0, len.0);
                Onto::Chunks(len.0, vec![(place.device.0, place.start.0)])
            }
            "striped" => {
                let read = striped::Line::from_text(text, len).expect("a line");
                let each = len.0 / read.stripes.len() as u64;
                let places = read.stripes.into_iter().map(|place| (place.device.0, place.start.0));
                let places: Vec<_> = places.collect();
                places.iter().for_each(|(word, start)| held(word, *start, each));
                Onto::Chunks(read.chunk.0, places)
            }
            "mirror" => {
                let read = mirror::Line::from_text(text, len).expect("a line");
                read.legs.iter().for_each(|leg| held(&leg.device.0, leg.start.0, len.0));
                Onto::Other
            }
            "raid" => {
                let read = raid::Line::from_text(text, len).expect("a line");
                let words = read.legs.iter().flat_map(|leg| leg.meta.iter().chain(&leg.data));
                words.for_each(|word| held(&word.0, 0, 1));
                Onto::Other
            }
            _ => {
                let words = text.split(' ').filter(|word| word.starts_with("/dev/mapper/"));
                words.for_each(|word| held(word, 0, 1));
                Onto::Other
            }
        }
    }

    fn len(&self, word: &str) -> Option<u64> {
        self.devices.get(word).map(|device| match device {
            Device::Image(bytes) => bytes.len() as u64,
            Device::Lines(_, sectors) => sectors.saturating_mul(512),
        })
    }

    fn read(&self, word: &str, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        let lines = match &self.devices[word] {
            Device::Image(bytes) => return bytes.read_at(offset, into),
            Device::Lines(lines, _) => lines,
        };
        while !into.is_empty() {
            let sector = offset / 512;
            let line =
                lines.iter().find(|line| (line.start..line.start + line.len).contains(&sector));
            let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
            let Onto::Chunks(chunk, places) = &line.onto else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let within = offset - line.start * 512;
            let (nr, at) = (within / (chunk * 512), within % (chunk * 512));
            let (below, start) = &places[(nr % places.len() as u64) as usize];
            let row = nr / places.len() as u64;
            let len = (chunk * 512 - at).min(into.len() as u64) as usize;
            let (piece, rest) = into.split_at_mut(len);
            self.read(below, (start + row * chunk) * 512 + at, piece)?;
            (into, offset) = (rest, offset + len as u64);
        }
        Ok(())
    }
}

/// A device of a stack, to be looked at.
struct Of<'a> {
    stack: &'a Stack,
    word: &'a str,
}

impl Source for Of<'_> {
    fn len(&self) -> u64 {
        self.stack.len(self.word).expect("it was made")
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.len());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.stack.read.set(self.stack.read.get() + into.len() as u64);
        self.stack.read(self.word, offset, into)
    }
}
