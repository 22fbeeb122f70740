//! The fuzz target for encrypted containers: headers that somebody else wrote.

use std::cell::Cell;
use std::io;

use crypto::Secret;
use crypto::hash::Hash;
use recognise::Source;
use recognise::containers::{Data, Limits, LineTarget, Unlock, Unlocked, probe};

use crate::bytes::Bytes;

/// What the image is said to hold, in bytes. Beyond what is given it reads as zeros.
const SIZE: u64 = 64 << 20;

/// The most that may be read of it: both copies of the largest header at each of its places, and
/// the areas of all key slots.
const MOST_READ: u64 = 128 << 20;

/// One copy of a LUKS2 header, made around a JSON text.
const COPY: usize = 16384;

/// Key derivations that cost next to nothing.
const CHEAP: Limits =
    Limits { pbkdf2_iterations: 8, argon2_memory_kib: 64, argon2_work_kib: 64, argon2_lanes: 1 };

/// An image in pieces.
struct Image {
    pieces: Vec<(u64, Vec<u8>)>,
    read: Cell<u64>,
}

/// Reads a header, prints it and tries a passphrase. The first byte says what the others are: an
/// image as it is, a LUKS2 header or its JSON text, to be given a checksum that is right, or a
/// BitLocker volume's metadata, likewise.
///
/// # Panics
/// When the reader does, reads more than any header needs, or gives lines that do not make up a
/// device within the image.
pub fn container(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let pieces = match bytes.below(4) {
        0 => vec![(0, bytes.rest().to_vec())],
        1 => luks2(bytes.rest()),
        2 => luks2_json(bytes.rest()),
        _ => bitlocker(bytes.rest()),
    };
    let image = Image { pieces, read: Cell::new(0) };
    let _ = read(&image, &Secret::new(Vec::new()));
    let _ = read(&image, &Secret::new(b"fuzz".to_vec()));
    assert!(image.read.get() < 2 * MOST_READ, "{} bytes read", image.read.get());
}

fn read(image: &Image, passphrase: &Secret) -> Result<(), recognise::Error> {
    let container = probe(image)?;
    let _ = container.dump().to_string();
    serde_json::to_string(&container.dump()).expect("a dump is JSON");
    let how = Unlock { limits: CHEAP, ..Unlock::default() };
    for data in [Data::with_header(SIZE), Data::apart(SIZE)] {
        check(&container.unlock(image, data, passphrase, &how)?);
    }
    Ok(())
}

fn check(unlocked: &Unlocked) {
    for lines in &unlocked.layers {
        let mut end = 0;
        for line in lines {
            assert_eq!(line.start, end, "a gap between lines");
            assert!(line.len > 0, "a line of no sectors");
            end += line.len;
            let offset = match &line.target {
                LineTarget::Crypt(crypt) => crypt.offset,
                LineTarget::Linear(offset) => *offset,
                LineTarget::Zero => 0,
            };
            assert!(offset + line.len <= SIZE / 512, "a line past the end");
            assert!(!line.table_line("dev").is_empty(), "a line without words");
        }
    }
}

/// Both copies of a LUKS2 header, from its first bytes on.
fn luks2(header: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut copy = header.to_vec();
    copy.resize(COPY, 0);
    vec![(0, sealed(copy))]
}

/// Both copies of a LUKS2 header around a JSON text.
fn luks2_json(json: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let copy = |at: usize| {
        let mut copy = vec![0; COPY];
        copy[..6].copy_from_slice(if at == 0 { b"LUKS\xba\xbe" } else { b"SKUL\xba\xbe" });
        copy[7] = 2;
        copy[8..16].copy_from_slice(&(COPY as u64).to_be_bytes());
        copy[72..78].copy_from_slice(b"sha256");
        copy[256..264].copy_from_slice(&(at as u64).to_be_bytes());
        let json = &json[..json.len().min(COPY - 4097)];
        copy[4096..4096 + json.len()].copy_from_slice(json);
        (at as u64, sealed(copy))
    };
    vec![copy(0), copy(COPY)]
}

/// Makes a header's checksum right, where it is one of SHA-256.
fn sealed(mut copy: Vec<u8>) -> Vec<u8> {
    copy[448..512].fill(0);
    let sha256 = Hash::by_name("sha256").expect("SHA-256 is known");
    let checksum = sha256.digest(&copy);
    copy[448..480].copy_from_slice(&checksum);
    copy
}

/// A volume with its metadata, to which the size and the checksum are put; what seals it stays.
fn bitlocker(metadata: &[u8]) -> Vec<(u64, Vec<u8>)> {
    const OFFSETS: [u64; 3] = [0x20000, 0x40000, 0x60000];
    let mut boot = vec![0; 512];
    boot[..11].copy_from_slice(b"\xeb\x58\x90-FVE-FS-");
    boot[160..176]
        .copy_from_slice(b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01");
    for (copy, offset) in OFFSETS.into_iter().enumerate() {
        boot[176 + 8 * copy..184 + 8 * copy].copy_from_slice(&offset.to_le_bytes());
    }
    // The last 88 bytes are the checksum and the keyed digest.
    let (block, validation) = metadata.split_at(metadata.len().saturating_sub(88));
    let (mut block, mut validation) = (block.to_vec(), validation.to_vec());
    block.resize(block.len().max(112).next_multiple_of(16), 0);
    let size = (block.len() / 16) as u16;
    block[8..10].copy_from_slice(&size.to_le_bytes());
    validation.resize(88, 0);
    validation[4..8].copy_from_slice(&crc32fast::hash(&block).to_le_bytes());
    block.extend(validation);
    vec![(0, boot), (OFFSETS[0], block)]
}

impl Source for Image {
    fn len(&self) -> u64 {
        SIZE
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= SIZE);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read.set(self.read.get() + into.len() as u64);
        into.fill(0);
        for (start, bytes) in &self.pieces {
            let (from, to) = (offset.max(*start), end.min(start + bytes.len() as u64));
            if from < to {
                let piece = &bytes[(from - start) as usize..(to - start) as usize];
                into[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
            }
        }
        Ok(())
    }
}
