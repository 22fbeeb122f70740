//! The target `md`: an array that mdadm made, or a volume of a BIOS's set, in use as md would have it.

mod bios;
mod load;

use std::fmt;
use std::sync::{Arc, OnceLock};

use sim_core::{
    Area, Args, Bio, BlkError, BoxFuture, CtrError, DevNumber, Flat, Limits, Mapped, Op,
    OpenDevice, Profile, Refusal, Reply, Sector, Sectors, Spots, StatusKind, StatusWriter, Target,
    TargetType, reply,
};

use super::RaidSet;
use super::load::Surroundings;
use crate::lines;
use crate::lines::md::{Line, MEMBERS, Members};
use crate::raid::bitmap::Header;
use crate::raid::layout::Layout;
use load::{Array, load};

/// An array of Linux MD.
pub struct Md {
    line: Line<Arc<OpenDevice>>,
    around: Surroundings,
    /// As its superblocks had it when the table was loaded.
    loaded: OnceLock<Array>,
    /// As they had it at the first resume: another table may have been in use until then.
    running: OnceLock<Array>,
}

impl TargetType for Md {
    const NAME: &'static str = "md";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Md, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let around = Surroundings {
            len: args.target_len(),
            runtime: args.runtime().clone(),
            events: args.events(),
            log: args.log(),
            access: args.access(),
        };
        let (loaded, running) = (OnceLock::new(), OnceLock::new());
        Ok(Md { line, around, loaded, running })
    }
}

impl Target for Md {
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        Box::pin(async {
            let _only_once = self.loaded.set(self.load().await?);
            Ok(())
        })
    }

    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let set = self.set();
        match bio.op() {
            Op::Write | Op::Discard if set.is_read_only => Mapped::Completed(Err(BlkError::Io)),
            _ => set.carry_out(bio),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => {
                let set = self.set();
                write!(out, "{}", set.info(self.running.get().is_some(), set.legs.len()))
            }
            StatusKind::Table => {
                let word = |device: &Arc<OpenDevice>| {
                    lines::device_word(&Area::whole(device.clone()), out)
                };
                let line = self.line.try_map(word)?;
                write!(out, "{line}")
            }
        }
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let set = self.set();
        write!(out, "{}", set.info(self.running.get().is_some(), set.legs.len()).measured())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        let Some(array) = self.running.get().or(self.loaded.get()) else { return };
        array.set.legs.iter().filter_map(|leg| leg.data.as_ref()).for_each(each);
    }

    fn profile(&self) -> Profile {
        let layout = self.loaded.get().map(|array| &array.set.layout);
        let discards = !matches!(layout, Some(Layout::Parity(_)));
        Profile {
            max_io_len: None,
            num_discard_bios: u32::from(discards),
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            flush_bypasses_map: false,
            max_discard_granularity: true,
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    fn io_hints(&self, limits: &mut Limits) {
        let Some(Array { set, .. }) = self.loaded.get() else { return };
        let chunk = u64::from(set.geometry.chunk_sectors);
        if chunk == 0 {
            return;
        }
        let data = match &set.layout {
            Layout::Parity(parity) => parity.data_legs(),
            other => other.legs(),
        };
        let bytes = |chunks: u64| u32::try_from(chunk * chunks * 512).ok();
        limits.io_min = bytes(1).unwrap_or(limits.io_min);
        limits.io_opt = bytes(data as u64).unwrap_or(0);
    }

    fn flatten(&self, _op: Op, _offset: Sector) -> Flat<'_> {
        Flat::Opaque
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        self.set().spots(offset, out)
    }

    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        Some(self.set().shown_from(below, sector))
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(match words {
            [word] if word.eq_ignore_ascii_case(MEMBERS) => Ok(Some(self.members().to_string())),
            _ => self.set().take_message(words),
        })
    }

    fn presuspend(&self) {
        self.set().end_background();
    }

    fn presuspend_undo(&self) {
        self.set().go_on();
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.set().settle())
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            if let Some(array) = self.running.get() {
                array.set.revive().await;
                return Ok(());
            }
            let array = match self.load().await {
                Ok(array) if array.set.layout == self.loaded().set.layout => array,
                Ok(_) => {
                    let why = "the array is another than when the table was loaded";
                    return Err(Refusal::because(sim_core::Errno::IO, why));
                }
                Err(error) => return Err(Refusal::because(error.errno, error.to_string())),
            };
            array.set.write_all_metadata(1).await;
            let _only_once = self.running.set(array);
            self.set().events.raise();
            Ok(())
        })
    }

    fn resume(&self) {
        self.set().state().reopen();
        self.set().go_on();
    }
}

impl Md {
    async fn load(&self) -> Result<Array, CtrError> {
        load(&self.line, self.around.access, &self.around).await
    }

    fn loaded(&self) -> &Array {
        self.loaded.get().expect("a target is used when its metadata has been read")
    }

    fn array(&self) -> &Array {
        self.running.get().unwrap_or_else(|| self.loaded())
    }

    fn set(&self) -> &Arc<RaidSet> {
        &self.array().set
    }

    fn members(&self) -> Members<DevNumber> {
        let Array { set, places } = self.array();
        let number = |member: usize| self.line.members[member].number();
        let region = set.state().intent.header().map_or(Sectors::ZERO, Header::chunk);
        let places = places.iter().map(|member| member.map(number)).collect();
        Members { geometry: set.geometry, region, places }
    }
}
