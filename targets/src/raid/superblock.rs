//! The superblock of a metadata device: the first logical block, little-endian, zeros after it; as
//! dm-raid writes it since 1.9.0.

use crate::parts::bytes::{le32, le64};

/// The number of 64-bit words with a bit for each leg.
const FAILED_WORDS: usize = 4;

/// How many bytes of the logical block mean anything.
pub const LEN: usize = 148;

const MAGIC: u32 = 0x6452_6d44;

/// In `compat_features`: what lies from `flags` on is there.
const V190: u32 = 1;

const RESHAPE_ACTIVE: u32 = 1;
const RESHAPE_BACKWARDS: u32 = 2;

/// What a 64-bit field holds for "nowhere": nothing is left to be done.
pub const DONE: u64 = u64::MAX;

/// What a superblock says. Sectors and lengths are of 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The features that a reader may ignore, but for the bit of the extension.
    pub unknown_compat: u32,
    /// How many legs the set has.
    pub devices: u32,
    /// Which of them this one is, counted from 0.
    pub position: u32,
    /// Counts the changes of state of the set.
    pub events: u64,
    /// The legs that have failed.
    pub failed: Legs,
    /// Up to where a leg that is rebuilt has what the set has; [`DONE`] where it is in sync.
    pub recovery_offset: u64,
    /// Up to where the set was synchronized at first; [`DONE`] where all of it is.
    pub resync_offset: u64,
    /// How the set is made.
    pub geometry: Geometry,
    /// What 1.9.0 added; none in one that is older.
    pub extension: Option<Extension>,
}

/// How a set is made, in md's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// 0, 1, 4, 5, 6 or 10.
    pub level: u32,
    /// What it means depends on the level.
    pub layout: u32,
    /// The length of a chunk; 0 for raid1.
    pub chunk_sectors: u32,
}

/// What 1.9.0 added to the superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The bits of `flags` as they are, but for those of `reshape`.
    pub unknown_flags: u32,
    /// Whether a reshape goes on.
    pub reshape: Option<Reshape>,
    /// Up to where a reshape got; [`DONE`] without one.
    pub reshape_position: u64,
    /// What the set becomes by the reshape; as it is without one.
    pub new_geometry: Geometry,
    /// How many legs a reshape adds.
    pub delta_disks: i32,
    /// The length of the set.
    pub array_sectors: u64,
    /// Where the data begins on this leg.
    pub data_offset: u64,
    /// Where it begins once a reshape is over.
    pub new_data_offset: u64,
    /// The sectors of this leg that are in use.
    pub device_sectors: u64,
    /// The features that a reader must know; none are defined.
    pub incompat: u32,
}

/// Which way a reshape goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// From the beginning of the set on.
    Forwards,
    /// From the end of the set down.
    Backwards,
}

/// A set of legs, out of 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Legs([u64; FAILED_WORDS]);

impl Legs {
    /// Tells whether a leg is in the set.
    pub fn has(&self, leg: usize) -> bool {
        self.0.get(leg / 64).is_some_and(|word| word >> (leg % 64) & 1 == 1)
    }

    /// Puts a leg in, which is one below 256.
    pub fn add(&mut self, leg: usize) {
        self.0[leg / 64] |= 1 << (leg % 64);
    }

    /// Returns how many legs are in the set.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Tells whether no leg is in the set.
    pub fn is_empty(&self) -> bool {
        *self == Legs::default()
    }
}

impl FromIterator<usize> for Legs {
    fn from_iter<T: IntoIterator<Item = usize>>(legs: T) -> Legs {
        let mut set = Legs::default();
        legs.into_iter().for_each(|leg| set.add(leg));
        set
    }
}

impl Superblock {
    /// Reads the start of a metadata device, at least [`LEN`] bytes; none where the magic number is
    /// not there.
    pub fn read(block: &[u8]) -> Option<Superblock> {
        assert!(block.len() >= LEN, "a superblock has {LEN} bytes");
        let word = |at: usize| le32(block, at);
        let long = |at: usize| le64(block, at);
        if word(0) != MAGIC {
            return None;
        }
        let geometry =
            |level: u32, layout: u32, chunk_sectors: u32| Geometry { level, layout, chunk_sectors };
        let mut failed = Legs([long(24), 0, 0, 0]);
        let extension = (word(4) & V190 != 0).then(|| {
            failed = Legs([long(24), long(120), long(128), long(136)]);
            let flags = word(60);
            let way = match flags & RESHAPE_BACKWARDS != 0 {
                true => Reshape::Backwards,
                false => Reshape::Forwards,
            };
            // Without a reshape, the bit of its way means nothing, and is kept.
            let reshape = (flags & RESHAPE_ACTIVE != 0).then_some(way);
            let known = if reshape.is_some() { RESHAPE_ACTIVE | RESHAPE_BACKWARDS } else { 0 };
            Extension {
                unknown_flags: flags & !known,
                reshape,
                reshape_position: long(64),
                new_geometry: geometry(word(72), word(76), word(80)),
                delta_disks: word(84) as i32,
                array_sectors: long(88),
                data_offset: long(96),
                new_data_offset: long(104),
                device_sectors: long(112),
                incompat: word(144),
            }
        });
        Some(Superblock {
            unknown_compat: word(4) & !V190,
            devices: word(8),
            position: word(12),
            events: long(16),
            failed,
            recovery_offset: long(32),
            resync_offset: long(40),
            geometry: geometry(word(48), word(52), word(56)),
            extension,
        })
    }

    /// Writes the superblock over a whole logical block, at least [`LEN`] bytes.
    pub fn write(&self, block: &mut [u8]) {
        assert!(block.len() >= LEN, "a superblock has {LEN} bytes");
        block.fill(0);
        let mut word = |at: usize, value: u32| {
            block[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        word(0, MAGIC);
        word(4, self.unknown_compat | if self.extension.is_some() { V190 } else { 0 });
        word(8, self.devices);
        word(12, self.position);
        word(48, self.geometry.level);
        word(52, self.geometry.layout);
        word(56, self.geometry.chunk_sectors);
        if let Some(extension) = &self.extension {
            let way = match extension.reshape {
                None => 0,
                Some(Reshape::Forwards) => RESHAPE_ACTIVE,
                Some(Reshape::Backwards) => RESHAPE_ACTIVE | RESHAPE_BACKWARDS,
            };
            word(60, extension.unknown_flags | way);
            word(72, extension.new_geometry.level);
            word(76, extension.new_geometry.layout);
            word(80, extension.new_geometry.chunk_sectors);
            word(84, extension.delta_disks as u32);
            word(144, extension.incompat);
        }
        let mut long = |at: usize, value: u64| {
            block[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        long(16, self.events);
        long(24, self.failed.0[0]);
        long(32, self.recovery_offset);
        long(40, self.resync_offset);
        if let Some(extension) = &self.extension {
            long(64, extension.reshape_position);
            long(88, extension.array_sectors);
            long(96, extension.data_offset);
            long(104, extension.new_data_offset);
            long(112, extension.device_sectors);
            let more = self.failed.0[1..].iter();
            more.zip([120, 128, 136]).for_each(|(&failed, at)| long(at, failed));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::raid::recorded::recorded;

    fn geometry(level: u32, layout: u32, chunk_sectors: u32) -> Geometry {
        Geometry { level, layout, chunk_sectors }
    }

    #[track_caller]
    fn check(name: &str, expected: Superblock) {
        let bytes = recorded(name).superblock;
        assert_eq!(Superblock::read(&bytes), Some(expected.clone()), "{name}");
        let mut again = [0xa5; 4096];
        expected.write(&mut again);
        assert_eq!(again[..bytes.len()], bytes, "{name}");
        assert!(again[LEN..].iter().all(|byte| *byte == 0), "{name}");
    }

    /// A leg of a raid1 of two legs of 8192 sectors, in sync.
    fn raid1(position: u32, events: u64) -> Superblock {
        Superblock {
            unknown_compat: 0,
            devices: 2,
            position,
            events,
            failed: Legs::default(),
            recovery_offset: DONE,
            resync_offset: DONE,
            geometry: geometry(1, 0, 0),
            extension: Some(Extension {
                unknown_flags: 0,
                reshape: None,
                reshape_position: DONE,
                new_geometry: geometry(1, 0, 0),
                delta_disks: 0,
                array_sectors: 8192,
                data_offset: 0,
                new_data_offset: 0,
                device_sectors: 8192,
                incompat: 0,
            }),
        }
    }

    /// A leg of a set of four, of another level.
    fn of_four(position: u32, events: u64, geometry: Geometry, lengths: (u64, u64)) -> Superblock {
        let mut superblock = raid1(position, events);
        let extension = superblock.extension.as_mut().expect("an extension");
        (extension.array_sectors, extension.device_sectors) = lengths;
        extension.new_geometry = geometry;
        Superblock { devices: 4, geometry, ..superblock }
    }

    #[test]
    fn recorded_superblocks_are_read_and_written_back() {
        check("raid1-resync-leg-0", Superblock { resync_offset: 2560, ..raid1(0, 7) });
        check("raid1-rebuild-leg-0", raid1(0, 15));
        check("raid1-rebuild-leg-1", Superblock { recovery_offset: 6400, ..raid1(1, 15) });
        check("raid1-leg-1-failed", Superblock { failed: Legs::from_iter([1]), ..raid1(0, 9) });
        let missing = Superblock { devices: 3, failed: Legs::from_iter([2]), ..raid1(0, 22) };
        check("raid1-leg-2-missing", missing);
        check("raid0-leg-0", of_four(0, 1, geometry(0, 0, 64), (16384, 4096)));
        for (format, layout) in [("near", 0x102), ("far", 0x40201), ("offset", 0x50201)] {
            let superblock = of_four(1, 10, geometry(10, layout, 64), (4096, 2048));
            let superblock = Superblock { resync_offset: 2240, ..superblock };
            check(&format!("raid10-{format}-leg-1"), superblock);
        }
    }

    #[test]
    fn one_without_the_extension_has_no_more_than_64_legs() {
        let mut bytes = recorded("raid1-leg-1-failed").superblock;
        bytes[4] = 0;
        bytes[120] = 1;
        let superblock = Superblock::read(&bytes).expect("a superblock");
        assert_eq!(superblock.extension, None);
        assert!(superblock.failed.has(1) && !superblock.failed.has(64));
    }

    #[test]
    fn another_magic_number_is_no_superblock() {
        let mut bytes = recorded("raid1-leg-1-failed").superblock;
        bytes[0] ^= 1;
        assert_eq!(Superblock::read(&bytes), None);
        assert_eq!(Superblock::read(&[0; 512]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_come_back(mut bytes in prop::collection::vec(any::<u8>(), LEN)) {
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            let superblock = Superblock::read(&bytes).expect("a superblock");
            let mut again = vec![0; LEN];
            superblock.write(&mut again);
            // One without the extension has nothing where that would be.
            let len = if superblock.extension.is_some() { LEN } else { 60 };
            prop_assert_eq!(&again[..len], &bytes[..len]);
            prop_assert_eq!(Superblock::read(&again), Some(superblock));
        }

        #[test]
        fn a_leg_has_a_bit_of_its_own(legs in prop::collection::btree_set(0usize..253, 0..20)) {
            let set: Legs = legs.iter().copied().collect();
            prop_assert_eq!((0..300).filter(|leg| set.has(*leg)).collect::<Vec<_>>(),
                legs.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.is_empty(), legs.is_empty());
        }
    }
}
