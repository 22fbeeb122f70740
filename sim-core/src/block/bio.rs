//! The unit of I/O: one operation on one contiguous range of sectors.

use std::fmt;

use crate::{SECTOR_SIZE, Sector, Sectors};

/// What a bio asks for: the kernel's `REQ_OP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Fill the buffer from the device.
    Read,
    /// Store the buffer on the device. Volatile until a flush, or with [`Flags::fua`].
    Write,
    /// Make every write that ended before this bio was submitted durable. Has no range.
    Flush,
    /// Give the range up. What it reads as afterwards is the device's choice.
    Discard,
    /// Make the range read as zeros.
    WriteZeroes,
    /// Give the range up so that nothing can bring its content back.
    SecureErase,
}

impl Op {
    /// Tells whether the operation changes the device.
    pub fn is_write(self) -> bool {
        match self {
            Op::Read | Op::Flush => false,
            Op::Write | Op::Discard | Op::WriteZeroes | Op::SecureErase => true,
        }
    }

    /// Tells whether the operation has a range but carries no data: what the kernel calls
    /// abnormal I/O, and sends as several clones to one target.
    pub fn is_abnormal(self) -> bool {
        match self {
            Op::Discard | Op::WriteZeroes | Op::SecureErase => true,
            Op::Read | Op::Write | Op::Flush => false,
        }
    }
}

/// What else a bio asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `REQ_FUA`: this write is durable when it ends.
    pub fua: bool,
    /// `REQ_PREFLUSH`: flush before the data is written.
    pub preflush: bool,
    /// `REQ_NOWAIT`: fail with [`BlkError::Again`](crate::BlkError::Again) where the bio would wait.
    pub nowait: bool,
    /// `REQ_RAHEAD`: nobody waits for the data; may fail at once.
    pub readahead: bool,
}

/// The data of a bio: borrowed from whoever submitted it.
enum Data<'a> {
    None,
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

/// One operation on one contiguous range of sectors.
///
/// The buffer is borrowed; a target that must keep data past the end of the bio copies it.
pub struct Bio<'a> {
    op: Op,
    /// The first sector, on the device or in the target that the bio was handed to.
    pub sector: Sector,
    len: Sectors,
    /// What else is asked for.
    pub flags: Flags,
    /// Which of the copies of a flush or of an abnormal bio this is, from 0: the kernel's
    /// `target_bio_nr`. A target that asks for one copy sees 0.
    pub nr: u32,
    data: Data<'a>,
}

impl<'a> Bio<'a> {
    /// Makes a read into `buffer`.
    ///
    /// # Panics
    /// When the buffer is not whole sectors.
    pub fn read(sector: Sector, buffer: &'a mut [u8]) -> Bio<'a> {
        let len = whole_sectors(buffer.len());
        Bio { op: Op::Read, sector, len, flags: Flags::default(), nr: 0, data: Data::Read(buffer) }
    }

    /// Makes a write of `buffer`.
    ///
    /// # Panics
    /// When the buffer is not whole sectors.
    pub fn write(sector: Sector, buffer: &'a [u8]) -> Bio<'a> {
        let len = whole_sectors(buffer.len());
        Bio {
            op: Op::Write,
            sector,
            len,
            flags: Flags::default(),
            nr: 0,
            data: Data::Write(buffer),
        }
    }

    /// Makes an empty flush.
    pub fn flush() -> Bio<'static> {
        Bio::without_data(Op::Flush, Sector::ZERO, Sectors::ZERO)
    }

    /// Makes a discard.
    pub fn discard(sector: Sector, len: Sectors) -> Bio<'static> {
        Bio::without_data(Op::Discard, sector, len)
    }

    /// Makes a write of zeros that carries no buffer.
    pub fn write_zeroes(sector: Sector, len: Sectors) -> Bio<'static> {
        Bio::without_data(Op::WriteZeroes, sector, len)
    }

    /// Makes a bio of an operation that carries no data.
    ///
    /// # Panics
    /// For [`Op::Read`] and [`Op::Write`], which do.
    pub fn without_data(op: Op, sector: Sector, len: Sectors) -> Bio<'static> {
        assert!(!matches!(op, Op::Read | Op::Write), "{op:?} carries data");
        Bio { op, sector, len, flags: Flags::default(), nr: 0, data: Data::None }
    }

    /// Sets the flags.
    pub fn with_flags(mut self, flags: Flags) -> Bio<'a> {
        self.flags = flags;
        self
    }

    /// Marks a write as durable when it ends.
    pub fn with_fua(mut self) -> Bio<'a> {
        self.flags.fua = true;
        self
    }

    /// Returns the operation.
    pub fn op(&self) -> Op {
        self.op
    }

    /// Returns the length; zero for a flush.
    pub fn len(&self) -> Sectors {
        self.len
    }

    /// Tells whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.len.is_zero()
    }

    /// Returns the sector after the last, or `None` past the end of all addresses.
    pub fn end(&self) -> Option<Sector> {
        self.sector.checked_add(self.len)
    }

    /// Returns what a write carries; empty for every other operation.
    pub fn data(&self) -> &[u8] {
        match &self.data {
            Data::Write(buffer) => buffer,
            Data::Read(_) | Data::None => &[],
        }
    }

    /// Returns the buffer that a read fills; empty for every other operation.
    pub fn buffer(&mut self) -> &mut [u8] {
        match &mut self.data {
            Data::Read(buffer) => buffer,
            Data::Write(_) | Data::None => &mut [],
        }
    }

    /// Ends the bio's use and returns the buffer of a read with its whole lifetime.
    pub fn into_buffer(self) -> &'a mut [u8] {
        match self.data {
            Data::Read(buffer) => buffer,
            Data::Write(_) | Data::None => &mut [],
        }
    }

    /// Moves the bio to another address.
    #[must_use]
    pub fn at(mut self, sector: Sector) -> Bio<'a> {
        self.sector = sector;
        self
    }

    /// Borrows the whole bio, to submit it again if need be.
    pub fn reborrow(&mut self) -> Bio<'_> {
        let (op, sector, len, flags, nr) = (self.op, self.sector, self.len, self.flags, self.nr);
        let data = match &mut self.data {
            Data::None => Data::None,
            Data::Read(buffer) => Data::Read(buffer),
            Data::Write(buffer) => Data::Write(buffer),
        };
        Bio { op, sector, len, flags, nr, data }
    }

    /// Borrows `len` sectors from `skip` on, as a bio at its own address.
    ///
    /// # Panics
    /// When the part is not within the bio.
    pub fn part(&mut self, skip: Sectors, len: Sectors) -> Bio<'_> {
        self.reborrow().cut(skip, len)
    }

    /// Narrows the bio to `len` sectors from `skip` on.
    ///
    /// # Panics
    /// When the part is not within the bio.
    #[must_use]
    pub fn cut(self, skip: Sectors, len: Sectors) -> Bio<'a> {
        assert!(skip + len <= self.len, "a part of a bio lies within it");
        let bytes = || {
            let from = usize::try_from(skip.bytes()).expect("a buffer fits in memory");
            from..from + usize::try_from(len.bytes()).expect("a buffer fits in memory")
        };
        let data = match self.data {
            Data::None => Data::None,
            Data::Read(buffer) => Data::Read(&mut buffer[bytes()]),
            Data::Write(buffer) => Data::Write(&buffer[bytes()]),
        };
        Bio { sector: self.sector + skip, len, data, ..self }
    }

    /// Splits the bio after its first `len` sectors.
    ///
    /// # Panics
    /// When `len` is longer than the bio.
    pub fn split_at(self, len: Sectors) -> (Bio<'a>, Bio<'a>) {
        assert!(len <= self.len, "a bio is split within itself");
        let bytes = || usize::try_from(len.bytes()).expect("a buffer fits in memory");
        let (op, flags, nr) = (self.op, self.flags, self.nr);
        let (head, tail) = match self.data {
            Data::None => (Data::None, Data::None),
            Data::Read(buffer) => {
                let (head, tail) = buffer.split_at_mut(bytes());
                (Data::Read(head), Data::Read(tail))
            }
            Data::Write(buffer) => {
                let (head, tail) = buffer.split_at(bytes());
                (Data::Write(head), Data::Write(tail))
            }
        };
        (
            Bio { op, sector: self.sector, len, flags, nr, data: head },
            Bio { op, sector: self.sector + len, len: self.len - len, flags, nr, data: tail },
        )
    }
}

impl fmt::Debug for Bio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}+{}", self.op, self.sector, self.len)?;
        let Flags { fua, preflush, nowait, readahead } = self.flags;
        for (set, word) in
            [(fua, " FUA"), (preflush, " PREFLUSH"), (nowait, " NOWAIT"), (readahead, " RAHEAD")]
        {
            if set {
                f.write_str(word)?;
            }
        }
        Ok(())
    }
}

fn whole_sectors(bytes: usize) -> Sectors {
    let bytes = bytes as u64;
    assert!(bytes.is_multiple_of(SECTOR_SIZE), "a buffer is whole sectors, not {bytes} bytes");
    Sectors::in_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_its_address_and_its_bytes() {
        let bytes: Vec<u8> = (0..4u8).flat_map(|sector| [sector; 512]).collect();
        let mut bio = Bio::write(Sector(100), &bytes);
        let part = bio.part(Sectors(1), Sectors(2));
        assert_eq!((part.sector, part.len()), (Sector(101), Sectors(2)));
        assert_eq!(part.data(), &bytes[512..1536]);
        let (head, tail) = bio.split_at(Sectors(3));
        assert_eq!((head.len(), tail.sector, tail.len()), (Sectors(3), Sector(103), Sectors(1)));
        assert_eq!(tail.data(), &bytes[1536..]);
    }

    #[test]
    #[should_panic(expected = "whole sectors")]
    fn a_buffer_of_half_a_sector_is_a_bug() {
        let _ = Bio::write(Sector(0), &[0; 256]);
    }
}
