//! What the log device holds: a superblock, then records, each a header of two sectors and data.
//!
//! The superblock is one sector: magic, epoch, checksum. The first sector of a header has the magic,
//! the epoch, its number in the epoch, the length, a checksum of the data and one of both sectors;
//! the second says where the data belongs.

pub(crate) const SECTOR: usize = 512;
/// The sectors of a header that have something in them.
pub(crate) const HEAD: usize = 2;

const SUPER: [u8; 8] = *b"logged 1";
const RECORD: [u8; 8] = *b"a record";
/// Where the checksum of a superblock and of a header is.
const SUM: usize = 48;

/// One record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    /// The first sector of the device that the data is for, and how many there are.
    pub(crate) sector: u64,
    pub(crate) len: u64,
    pub(crate) data_sum: u64,
}

fn put(sectors: &mut [u8], at: usize, number: u64) {
    sectors[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn number(sectors: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(sectors[at..at + 8].try_into().expect("eight bytes"))
}

fn sum_without_itself(sectors: &[u8]) -> u64 {
    let mut plain = sectors.to_vec();
    put(&mut plain, SUM, 0);
    checksum(&plain)
}

pub(crate) fn encode_super(sector: &mut [u8], epoch: u64) {
    sector[..8].copy_from_slice(&SUPER);
    put(sector, 8, epoch);
    let sum = sum_without_itself(&sector[..SECTOR]);
    put(sector, SUM, sum);
}

/// Returns the epoch; nothing where there is no superblock.
pub(crate) fn decode_super(sector: &[u8]) -> Option<u64> {
    let is_super = sector[..8] == SUPER && sum_without_itself(sector) == number(sector, SUM);
    is_super.then(|| number(sector, 8))
}

pub(crate) fn encode(sectors: &mut [u8], header: &Header) {
    sectors[..8].copy_from_slice(&RECORD);
    put(sectors, 8, header.epoch);
    put(sectors, 16, header.number);
    put(sectors, 24, header.len);
    put(sectors, 32, header.data_sum);
    put(sectors, SECTOR, header.sector);
    let sum = sum_without_itself(&sectors[..HEAD * SECTOR]);
    put(sectors, SUM, sum);
}

pub(crate) fn decode(sectors: &[u8], checked: bool) -> Option<Header> {
    let is_whole = !checked || sum_without_itself(sectors) == number(sectors, SUM);
    (sectors[..8] == RECORD && is_whole).then(|| Header {
        epoch: number(sectors, 8),
        number: number(sectors, 16),
        len: number(sectors, 24),
        data_sum: number(sectors, 32),
        sector: number(sectors, SECTOR),
    })
}

/// Makes the checksums of all superblocks and headers right, whatever they say.
pub(crate) fn seal(content: &mut [u8]) {
    for at in (0..content.len()).step_by(SECTOR) {
        let len = match &content[at..at + 8] {
            magic if magic == SUPER => SECTOR,
            magic if magic == RECORD && content.len() - at >= HEAD * SECTOR => HEAD * SECTOR,
            _ => continue,
        };
        let sum = sum_without_itself(&content[at..at + len]);
        put(&mut content[at..at + len], SUM, sum);
    }
}

/// FNV-1a over words of 64 bits: whichever bit is changed changes it.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| number(word, 0));
    words.fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| {
        (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}
