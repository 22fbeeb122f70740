//! Images with partition tables, by the tools that are installed and by hand, and what libblkid says of them.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::images;
pub(crate) use crate::images::Image;
use recognise::partitions::{MAX_NUMBER, MOST_READ, Table, layers, read_with};
use recognise::{Error, Source};
use targets::lines::{DeviceWord, linear};

pub(crate) const MIB: u64 = 1 << 20;

/// Whether there are these programs. Without one a test is skipped; not so where CI is to run it.
pub(crate) fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| images::have(program))
}

impl Image {
    /// Has sfdisk write a table.
    pub(crate) fn sfdisk(size: u64, script: &str) -> Image {
        let image = Image::empty(size);
        image.tool_with("sfdisk", &["-q", "IMAGE"], script);
        image
    }

    /// Runs a program; the word IMAGE is the image. Returns what it printed.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> String {
        self.tool_with(program, arguments, "")
    }

    pub(crate) fn tool_with(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let path = self.path();
        let path = path.to_str().unwrap();
        let mut child = Command::new(program)
            .args(arguments.iter().map(|word| if *word == "IMAGE" { path } else { word }))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("LC_ALL", "C.UTF-8")
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    pub(crate) fn table(&self) -> Table {
        checked(&self.bytes(), None).unwrap().expect("a table")
    }

    /// Reads the table, and compares it with what libblkid says by way of partx. Returns it.
    pub(crate) fn agrees(&self, sector_size: Option<u32>) -> Table {
        let table = checked(&self.bytes(), sector_size).unwrap().expect("a table");
        let mut partx = vec!["--pairs", "--output"];
        partx.push("NR,START,SECTORS,UUID,TYPE,FLAGS,NAME");
        let size = table.sector_size.to_string();
        partx.extend(["--sector-size", &size, "IMAGE"]);
        let said = self.tool("partx", &partx);
        let ours: String = table.partitions.iter().map(pairs).collect();
        assert_eq!(ours, unescaped(&said));
        table
    }
}

/// Prints a partition as partx does.
fn pairs(partition: &recognise::partitions::Partition) -> String {
    let number = partition.number;
    let flags = match partition.bootable && partition.attributes == 0 {
        true => 0x80,
        false => partition.attributes,
    };
    format!(
        "NR=\"{number}\" START=\"{}\" SECTORS=\"{}\" UUID=\"{}\" TYPE=\"{}\" FLAGS=\"{flags:#x}\" NAME=\"{}\"\n",
        partition.start,
        partition.sectors,
        partition.uuid.as_deref().unwrap_or_default(),
        partition.kind,
        partition.name.as_deref().unwrap_or_default()
    )
}

/// Takes back what partx does to bytes that are no ASCII.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(&after[..2], 16).unwrap());
        rest = &after[2..];
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).unwrap()
}

/// Counts what is read of an image, which may be longer than its bytes, and has zeros there.
pub(crate) struct Counted<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) len: u64,
    read: Cell<u64>,
}

impl Source for Counted<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.len);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read.set(self.read.get() + into.len() as u64);
        for (at, byte) in (offset..).zip(into) {
            let known = usize::try_from(at).ok().and_then(|at| self.bytes.get(at));
            *byte = known.copied().unwrap_or(0);
        }
        Ok(())
    }
}

/// Reads a table, and holds it to what must be so of any.
pub(crate) fn checked(bytes: &[u8], sector_size: Option<u32>) -> Result<Option<Table>, Error> {
    checked_of_len(bytes, bytes.len() as u64, sector_size)
}

pub(crate) fn checked_of_len(
    bytes: &[u8],
    len: u64,
    sector_size: Option<u32>,
) -> Result<Option<Table>, Error> {
    let source = Counted { bytes, len, read: Cell::new(0) };
    let table = read_with(&source, sector_size);
    let read = source.read.get();
    assert!(read <= MOST_READ, "{read} bytes read");
    if let Ok(Some(table)) = &table {
        holds(table, source.len);
    }
    table
}

fn holds(table: &Table, len: u64) {
    assert!(table.sectors.0 * 512 <= len);
    let numbers: Vec<u32> = table.partitions.iter().map(|partition| partition.number).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
    assert!(numbers.iter().all(|number| (1..=MAX_NUMBER).contains(number)), "{numbers:?}");
    for partition in &table.partitions {
        assert!(partition.sectors.0 > 0, "{partition:?}");
        assert!(partition.start < partition.end(), "{partition:?}");
        assert!(partition.end().0 <= table.sectors.0, "{partition:?} of {}", table.sectors);
    }
    // At most four a partition, and some of the whole.
    assert!(table.warnings.len() <= 4 * (MAX_NUMBER as usize + 4), "{}", table.warnings.len());
    assert!(!table.to_string().contains('\x1b'));
    let json = serde_json::to_value(table).unwrap();
    assert_eq!(json["partitions"].as_array().unwrap().len(), table.partitions.len());
    let on = DeviceWord::from("/dev/a b");
    let with_data = table.partitions.iter().filter(|partition| partition.holds_data());
    let made = layers(table, &on, "disk");
    assert_eq!(made.len(), with_data.clone().count());
    for (layer, partition) in made.iter().zip(with_data) {
        let [line] = &layer.lines[..] else { panic!("{layer:?}") };
        assert_eq!((line.start.0, line.len), (0, partition.sectors));
        let read = linear::Line::from_text(&line.params, line.len).unwrap();
        assert_eq!((read.place.device, read.place.start), (on.clone(), partition.start));
    }
}

/// A partition of a GPT: its first and last sector.
pub(crate) type Span = (u64, u64);

/// Makes a GPT with both copies, of sectors of this size, over so many of them.
pub(crate) fn gpt(sector_size: usize, sectors: u64, spans: &[Span]) -> Vec<u8> {
    let array = (spans.len().max(4) * 128).next_multiple_of(sector_size);
    let of_array = (array / sector_size) as u64;
    let mut image = vec![0; sectors as usize * sector_size];
    protect(&mut image, sectors);
    for (at, span) in spans.iter().enumerate() {
        let mut entry = [0; 128];
        entry[..16].fill(0x11);
        entry[16] = at as u8;
        entry[32..40].copy_from_slice(&span.0.to_le_bytes());
        entry[40..48].copy_from_slice(&span.1.to_le_bytes());
        for start in [2, sectors - 1 - of_array] {
            image[start as usize * sector_size + 128 * at..][..128].copy_from_slice(&entry);
        }
    }
    let usable = (2 + of_array, sectors - 2 - of_array);
    for (at, other, start) in [(1, sectors - 1, 2), (sectors - 1, 1, usable.1 + 1)] {
        let header = &mut image[at as usize * sector_size..][..92];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
        for (place, number) in [(24, at), (32, other), (40, usable.0), (48, usable.1), (72, start)]
        {
            header[place..place + 8].copy_from_slice(&number.to_le_bytes());
        }
        header[56] = 0x22;
        header[80..84].copy_from_slice(&(array as u32 / 128).to_le_bytes());
        header[84] = 128;
        seal(&mut image, sector_size, at);
    }
    image
}

fn protect(image: &mut [u8], sectors: u64) {
    let entry = &mut image[446..462];
    entry[4] = 0xee;
    entry[8] = 1;
    entry[12..16].copy_from_slice(&(sectors as u32 - 1).to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
}

/// Makes the checksums of the copy with this header right, where its array lies in the image.
pub(crate) fn seal(image: &mut [u8], sector_size: usize, at: u64) {
    let start = at as usize * sector_size;
    let number = |at: usize| u64::from_le_bytes(image[start + at..][..8].try_into().unwrap());
    let len = (number(80) & 0xffff_ffff) * (number(84) & 0xffff_ffff);
    let array = number(72).checked_mul(sector_size as u64);
    let end = array.and_then(|array| array.checked_add(len));
    if let (Some(array), Some(end)) = (array, end.filter(|end| *end <= image.len() as u64)) {
        let crc = crc32fast::hash(&image[array as usize..end as usize]);
        image[start + 88..start + 92].copy_from_slice(&crc.to_le_bytes());
    }
    let header = &mut image[start..start + 92];
    header[16..20].fill(0);
    let crc = crc32fast::hash(header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
}

/// Puts an entry into a slot of an MBR, or of a link of a chain, that lies in this sector.
pub(crate) fn entry(image: &mut [u8], sector: usize, slot: usize, kind: u8, start: u32, len: u32) {
    let bytes = &mut image[sector * 512..][..512];
    let entry = &mut bytes[446 + 16 * slot..][..16];
    entry[4] = kind;
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..16].copy_from_slice(&len.to_le_bytes());
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
}

/// An MBR with a primary partition and a chain of three logical ones.
pub(crate) fn mbr() -> Vec<u8> {
    let mut image = vec![0; 256 * 512];
    image[440..444].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
    entry(&mut image, 0, 0, 0x83, 8, 8);
    entry(&mut image, 0, 1, 0x05, 32, 200);
    for (link, next) in [(32, 64), (96, 128), (160, 0)] {
        entry(&mut image, link, 0, 0x83, 2, 16);
        if next > 0 {
            entry(&mut image, link, 1, 0x05, next, 20);
        }
    }
    image
}

/// The places of partitions, as `number: start+length`.
pub(crate) fn places(table: &Table) -> String {
    let place = |partition: &recognise::partitions::Partition| {
        format!("{}: {}+{}", partition.number, partition.start, partition.sectors)
    };
    table.partitions.iter().map(place).collect::<Vec<_>>().join(", ")
}
