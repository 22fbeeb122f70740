//! `crypt <cipher> <key> <iv_offset> <dev> <offset> [<#options> <options>]`: encrypts what it
//! writes to one contiguous range of a device, and decrypts what it reads.

mod key;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};

use arc_swap::ArcSwapOption;
use crypto::{Fault, Secret, SectorCipher, Spec};
use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, Buffer, CtrError, Errno, Limits, Locked,
    Mapped, Op, Profile, Refusal, Reply, Runtime, Sector, Sectors, Spots, StatusKind, StatusWriter,
    Target, TargetLog, TargetType, reply,
};

use crate::lines::crypt::{Head, Key, Line, Options};
use crate::lines::{self, Place};

/// Larger bios are cut in two for two processors, as long as each half has this many bytes: the
/// time of waking a thread up, several times over.
const SHARE: usize = 128 << 10;

/// A write is encrypted in pieces of this many sectors (1 MiB), each in a buffer of its own:
/// memory in use does not grow with the bio.
const PIECE: Sectors = Sectors(2048);

/// What the kernel's dm-crypt puts before its lines, by way of a header that it includes.
const LOG_PREFIX: &str = "trusted_key: ";

/// Sectors encrypted onto another device.
pub struct Crypt {
    spec: Spec,
    options: Options,
    iv_offset: Sectors,
    area: Area,
    key: Locked<Key>,
    /// Nothing while the key is wiped.
    cipher: ArcSwapOption<SectorCipher>,
    suspended: AtomicBool,
    runtime: Arc<dyn Runtime>,
    log: TargetLog,
}

impl TargetType for Crypt {
    const NAME: &'static str = "crypt";
    const VERSION: [u32; 3] = [1, 28, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Crypt, CtrError> {
        let runtime = args.runtime().clone();
        let mut made = None;
        let line = lines::parse(args, |words, devices| {
            let head = Head::parse(words)?;
            made = Some(load_cipher(&head, &*runtime)?);
            head.parse_rest(words, devices)
        })?;
        let cipher = made.expect("the head of a line comes first").map_err(Head::cipher_fault)?;
        let Line { head: Head { spec, key, options }, iv_offset, place } = line;
        if options.integrity().is_some() {
            // The kernel's text for a device below that keeps no tags, which none here does.
            let detail = "tags need an integrity device below, which dmsim does not have yet";
            return Err(Head::no_tags(detail));
        }
        Ok(Crypt {
            spec,
            options,
            iv_offset,
            area: Area::new(place.device, place.start, args.target_len()),
            key: Locked::new(key),
            cipher: ArcSwapOption::from_pointee(cipher),
            suspended: AtomicBool::new(false),
            runtime,
            log: args.log(),
        })
    }
}

impl Target for Crypt {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        match bio.op() {
            Op::Flush => Mapped::Remapped(&self.area, Sector::ZERO, bio),
            Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                Mapped::Remapped(&self.area, bio.sector, bio)
            }
            Op::Read | Op::Write if !self.is_aligned(&bio) => Mapped::Completed(Err(BlkError::Io)),
            Op::Read => self.read(bio),
            Op::Write if bio.len() <= PIECE => self.write(bio),
            Op::Write => Mapped::InFlight(Box::pin(self.write_in_pieces(bio))),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                let (spec, options) = (self.spec.clone(), self.options.clone());
                let head = Head { spec, key: self.key().clone(), options };
                let device = lines::device_word(&self.area, out)?;
                let place = Place { device, start: self.area.start };
                Line { head, iv_offset: self.iv_offset, place }.write(out)
            }
        }
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let (spec, size) = (&self.spec, self.key().size());
        write!(out, "{}cipher_string={spec},key_size={size},", self.options.measured())?;
        let (parts, extra) = (spec.key_parts(size), spec.iv_key_size(size));
        write!(out, "key_parts={parts},key_extra_size={extra},key_mac_size=0")
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile {
            num_discard_bios: u32::from(self.options.allow_discards),
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    /// Ciphertext is as long as the text, and in its place.
    fn stores<'a>(
        &'a self,
        offset: Sector,
        each: &mut dyn FnMut(&'a Area, Sector),
    ) -> Option<Sectors> {
        each(&self.area, offset);
        Some(self.area.size() - offset.from_start())
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        out.at(&self.area, offset, "encrypted");
        Some(self.area.size() - offset.from_start())
    }

    fn io_hints(&self, limits: &mut Limits) {
        let unit = self.options.sector_size;
        limits.logical_block_size = limits.logical_block_size.max(unit);
        limits.physical_block_size = limits.physical_block_size.max(unit);
        limits.io_min = limits.io_min.max(unit);
        limits.dma_alignment = limits.logical_block_size - 1;
    }

    /// `key set <key>` and `key wipe`, while suspended.
    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(self.take_message(words))
    }
    /// The suspend may be given up while another target of the table goes on with its part.
    fn presuspend_undo(&self) {
        self.suspended.store(false, SeqCst);
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        self.suspended.store(true, SeqCst);
        Box::pin(std::future::ready(()))
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        let ready = if self.cipher.load().is_some() {
            Ok(())
        } else {
            let why = "aborting resume - crypt key is not set.";
            self.log.line_with(LOG_PREFIX, why);
            Err(Refusal::because(Errno::AGAIN, why))
        };
        Box::pin(std::future::ready(ready))
    }

    fn resume(&self) {
        self.suspended.store(false, SeqCst);
    }
}

impl Crypt {
    fn take_message(&self, words: &[&str]) -> Result<Option<String>, Refusal> {
        let same = |word: &str, name: &str| word.eq_ignore_ascii_case(name);
        let refused = |why: &str| {
            self.log.line_with(LOG_PREFIX, why);
            Err(Refusal::because(Errno::INVAL, why))
        };
        match words {
            [key, _, ..] if same(key, "key") && !self.suspended.load(SeqCst) => {
                refused("not suspended during key manipulation.")
            }
            [key, set, word] if same(key, "key") && same(set, "set") => Ok(self.set_key(word)?),
            [key, wipe] if same(key, "key") && same(wipe, "wipe") => {
                self.wipe_key();
                Ok(None)
            }
            _ => refused("unrecognised message received."),
        }
    }

    fn read<'a>(&'a self, mut bio: Bio<'a>) -> Mapped<'a> {
        let Some(cipher) = self.cipher.load_full() else { return no_key() };
        let sector = bio.sector;
        match self.area.submit(sector, bio.reborrow()).now() {
            Ok(result) => {
                Mapped::Completed(result.map(|()| self.decrypt(&cipher, sector, bio.buffer())))
            }
            Err(_) => Mapped::InFlight(Box::pin(async move {
                self.area.submit(sector, bio.reborrow()).await?;
                self.decrypt(&cipher, sector, bio.buffer());
                Ok(())
            })),
        }
    }

    /// Encrypts into a buffer of its own: the caller's is not touched.
    fn write<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let Some(cipher) = self.cipher.load_full() else { return no_key() };
        let (sector, flags) = (bio.sector, bio.flags);
        let mut buffer = Buffer::take(bio.data().len());
        self.encrypt(&cipher, sector, bio.data(), &mut buffer);
        let below = Bio::write(sector, &buffer).with_flags(flags);
        match self.area.submit(sector, below).now() {
            Ok(result) => Mapped::Completed(result),
            Err(_) => Mapped::InFlight(Box::pin(async move {
                let below = Bio::write(sector, &buffer).with_flags(flags);
                self.area.submit(sector, below).await
            })),
        }
    }

    async fn write_in_pieces(&self, mut bio: Bio<'_>) -> BlkResult {
        let mut done = Sectors::ZERO;
        while done < bio.len() {
            let len = PIECE.min(bio.len() - done);
            match self.write(bio.part(done, len)) {
                Mapped::Completed(result) => result?,
                Mapped::InFlight(end) => end.await?,
                Mapped::Remapped(..) => unreachable!("what is encrypted has a buffer of its own"),
            }
            done += len;
        }
        Ok(())
    }

    /// Decrypts in place, on more processors where it is much.
    fn decrypt(&self, cipher: &SectorCipher, sector: Sector, data: &mut [u8]) {
        let Some(half) = half(data.len()) else {
            return cipher.decrypt(self.iv_sector(sector), data);
        };
        let middle = sector + Sectors::in_bytes(half as u64);
        let (head, tail) = data.split_at_mut(half);
        self.runtime.join(&mut || self.decrypt(cipher, sector, head), &mut || {
            self.decrypt(cipher, middle, tail)
        });
    }

    /// Encrypts, on more processors where it is much.
    fn encrypt(&self, cipher: &SectorCipher, sector: Sector, from: &[u8], to: &mut [u8]) {
        let Some(half) = half(from.len()) else {
            return cipher.encrypt_to(self.iv_sector(sector), from, to);
        };
        let middle = sector + Sectors::in_bytes(half as u64);
        let (head, tail) = to.split_at_mut(half);
        self.runtime.join(&mut || self.encrypt(cipher, sector, &from[..half], head), &mut || {
            self.encrypt(cipher, middle, &from[half..], tail)
        });
    }

    /// Returns the number that the IV of a sector is made from. Past the last it begins again at
    /// zero, as the kernel's does.
    fn iv_sector(&self, sector: Sector) -> u64 {
        self.iv_offset.0.wrapping_add(sector.0)
    }

    /// Tells whether a bio is whole units of encryption.
    fn is_aligned(&self, bio: &Bio<'_>) -> bool {
        (bio.sector.0 | bio.len().0).is_multiple_of(self.options.unit().0)
    }

    fn set_key(&self, word: &str) -> Result<Option<String>, Errno> {
        let mut current = self.key();
        let new = Key::parse(word).map_err(|fault| fault.errno)?;
        if new.size() != current.size() {
            return Err(Errno::INVAL);
        }
        let bytes = key::load(&new, &*self.runtime).map_err(|fault| fault.errno)?;
        let cipher = make_cipher(&self.spec, &bytes, &self.options);
        let cipher = cipher.map_err(|fault| Errno(fault.kind.errno()))?;
        self.cipher.store(Some(Arc::new(cipher)));
        *current = new;
        Ok(None)
    }

    fn wipe_key(&self) {
        let mut key = self.key();
        let size = key.size();
        *key = Key::Wiped(size);
        self.cipher.store(None);
    }

    fn key(&self) -> MutexGuard<'_, Key> {
        self.key.lock()
    }
}

/// Ends a bio for which there is no key: the device is resumed only with one, so none comes.
fn no_key<'a>() -> Mapped<'a> {
    Mapped::Completed(Err(BlkError::Io))
}

/// Returns where to cut data in two for two processors; nothing where that is not worth it.
fn half(len: usize) -> Option<usize> {
    (len >= 2 * SHARE).then(|| (len / 2).next_multiple_of(SHARE))
}

/// Makes the cipher of a line. A fault that is about the device comes after those of the device
/// itself.
fn load_cipher(
    head: &Head,
    runtime: &dyn Runtime,
) -> Result<Result<SectorCipher, Fault>, CtrError> {
    let bytes = key::load(&head.key, runtime).map_err(Head::key_fault)?;
    match make_cipher(&head.spec, &bytes, &head.options) {
        Err(fault) if !fault.is_about_the_device() => Err(Head::key_refused(fault)),
        made => Ok(made),
    }
}

fn make_cipher(spec: &Spec, key: &Secret, options: &Options) -> Result<SectorCipher, Fault> {
    let cipher = SectorCipher::new(spec, key.expose(), options.sector_size, options.iv_unit);
    wipe_stack();
    cipher
}

/// Overwrites what the functions that returned just now have left on the stack: a compiler puts
/// parts of a key there without being asked.
#[inline(never)]
fn wipe_stack() {
    const ROOM: usize = 32 << 10;
    std::hint::black_box(&mut [0u8; ROOM]);
}
