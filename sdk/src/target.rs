//! A plug-in's target, as the core sees it.

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use sim_core::{
    Area, Bio, BlkError, BlkResult, BoxFuture, Discarded, Errno, Mapped, Op, Profile, Refusal,
    Reply, SECTOR_SIZE, Sectors, StatusKind, StatusWriter, Target, reply,
};

use crate::abi;
use crate::instance::{Instance, Request};

/// What stands for a status that the plug-in cannot say, as with some types of the kernel.
const NO_STATUS: &str = "Error";

/// A target that a plug-in made.
pub(crate) struct PluginTarget {
    name: String,
    instance: Arc<Instance>,
    told: Told,
    /// What it was made from.
    words: Vec<Word>,
}

/// What `ctr` said of the target that it made.
pub(crate) struct Told {
    pub(crate) max_io_len: Option<Sectors>,
    pub(crate) discarded: Discarded,
}

/// A word of the table line.
pub(crate) enum Word {
    /// As it stood there.
    Text(String),
    /// It named the device with this index.
    Device(usize),
}

impl PluginTarget {
    pub(crate) fn new(
        name: String,
        instance: Instance,
        told: Told,
        words: Vec<Word>,
    ) -> PluginTarget {
        PluginTarget { name, instance: Arc::new(instance), told, words }
    }

    fn areas(&self) -> &[Area] {
        &self.instance.devices.areas
    }

    /// Runs a callback that may block on a thread of the target; `None` when there is no thread
    /// to be had.
    async fn on_thread<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Instance) -> T + Send + 'static,
    ) -> Option<T> {
        let instance = self.instance.clone();
        // The closure lets go of the instance before its end is told, so that whoever is told
        // finds the devices closed where this target is gone.
        self.instance.workers.run(move || act(&instance)).await
    }

    async fn carry_out(&self, mut bio: Bio<'_>) -> BlkResult {
        let data = match bio.op() {
            Op::Read => vec![0; (bio.len().0 * SECTOR_SIZE) as usize],
            Op::Write => bio.data().to_vec(),
            Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => Vec::new(),
        };
        let (sector, len, fua) = (bio.sector, bio.len(), bio.flags.fua);
        let mut request = Request { op: bio.op(), sector, len, fua, data };
        let run = move |instance: &Instance| {
            let end = instance.carry_out(&mut request);
            (end, request)
        };
        let (end, request) = self.on_thread(run).await.ok_or(BlkError::Io)?;
        if bio.op() == Op::Read && end.is_ok() {
            bio.buffer().copy_from_slice(&request.data);
        }
        end
    }

    /// Returns how each device is to be written.
    fn device_names(&self, out: &StatusWriter<'_>) -> Vec<String> {
        let name = |area: &Area| {
            let mut text = String::new();
            let written = StatusWriter::new(&mut text, out.style()).device(area);
            written.expect("a string takes what is written");
            text
        };
        self.areas().iter().map(name).collect()
    }

    /// Writes the words of the table line, such that they are read as the same words.
    fn write_words(&self, names: &[String], out: &mut StatusWriter<'_>) -> fmt::Result {
        for (index, word) in self.words.iter().enumerate() {
            if index > 0 {
                write!(out, " ")?;
            }
            match word {
                Word::Device(device) => write!(out, "{}", names[*device])?,
                Word::Text(text) => {
                    for c in text.chars() {
                        let protect = c == '\\' || c.is_ascii_whitespace() || c == '\x0b';
                        write!(out, "{}{c}", if protect { "\\" } else { "" })?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Target for PluginTarget {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        // A callback may block, and whoever asks for this will not wait.
        if bio.flags.nowait {
            return Mapped::Completed(Err(BlkError::Again));
        }
        Mapped::InFlight(Box::pin(self.carry_out(bio)))
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        let names = self.device_names(out);
        let texts = names.iter().map(|name| CString::new(name.as_str()).unwrap_or_default());
        let number = match kind {
            StatusKind::Info => abi::STATUS_INFO,
            StatusKind::Table => abi::STATUS_TABLE,
        };
        let text = self.instance.status(number, &texts.collect::<Vec<_>>());
        if let Some(Err(why)) = &text {
            tracing::warn!(plugin = self.name, why, "a plug-in's status is none");
        }
        match (text, kind) {
            (Some(Ok(text)), _) => write!(out, "{text}"),
            (Some(Err(_)), StatusKind::Info) => write!(out, "{NO_STATUS}"),
            (None, StatusKind::Info) => Ok(()),
            (Some(Err(_)) | None, StatusKind::Table) => self.write_words(&names, out),
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.areas().iter().for_each(each);
    }

    fn profile(&self) -> Profile {
        let calls = self.instance.calls();
        // Without a device there is none below to ask whether it can.
        let alone = self.areas().is_empty();
        Profile {
            max_io_len: self.told.max_io_len,
            discarded: match self.told.discarded {
                Discarded::AsBelow if alone => Discarded::Anything,
                told => told,
            },
            num_flush_bios: 1,
            num_discard_bios: calls.discard.is_some().into(),
            num_write_zeroes_bios: calls.write_zeroes.is_some().into(),
            discards_supported: alone && calls.discard.is_some(),
            flush_supported: alone && calls.flush.is_some(),
            flush_bypasses_map: calls.flush.is_none(),
            ..Profile::default()
        }
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        self.instance.calls().message?;
        reply(self.instance.message(words).map_err(Into::into))
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            match self.instance.calls().preresume {
                None => Ok(()),
                Some(_) => {
                    let ready = self.on_thread(Instance::preresume).await;
                    Ok(ready.unwrap_or(Err(Errno::IO))?)
                }
            }
        })
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Also for those that nobody waited for any more.
            self.instance.workers.idle().await;
            if self.instance.calls().postsuspend.is_none() {
                return;
            }
            let end = self.on_thread(Instance::postsuspend).await.unwrap_or(Err(Errno::IO));
            if let Err(errno) = end {
                tracing::error!(plugin = self.name, %errno, "a plug-in's postsuspend failed");
            }
        })
    }
}
