//! Lines as the targets read and print them: with their devices opened.

use std::fmt;
use std::sync::Arc;

use sim_core::{Area, Arg, Args, CtrError, OpenDevice, StatusWriter, Words};

use super::words::{DeviceFacts, Devices};

/// Opens devices for a target that is made.
pub(crate) struct Opening<'a, 'b>(&'a mut Args<'b>);

impl Devices for Opening<'_, '_> {
    type Device = Arc<OpenDevice>;

    fn open(&mut self, word: Arg<'_>, kernel: &str) -> Result<Arc<OpenDevice>, CtrError> {
        self.0.device(word, kernel)
    }

    fn facts(&self, device: &Arc<OpenDevice>) -> Option<DeviceFacts> {
        let logical_block = device.limits().logical_block();
        Some(DeviceFacts { number: device.number(), size: device.size(), logical_block })
    }

    fn processors(&self) -> Option<u32> {
        Some(self.0.runtime().processors())
    }

    fn log(&mut self, module: &str, line: fmt::Arguments<'_>) {
        self.0.log().of_module(module).line(line);
    }
}

/// Reads the line that a target is made from.
pub(crate) fn parse<'b, T>(
    args: &mut Args<'b>,
    parse: impl FnOnce(&mut Words<'_>, &mut Opening<'_, 'b>) -> Result<T, CtrError>,
) -> Result<T, CtrError> {
    let mut words = args.words().clone();
    parse(&mut words, &mut Opening(args))
}

/// Returns what a text calls a device.
pub(crate) fn device_word(area: &Area, out: &StatusWriter<'_>) -> Result<String, fmt::Error> {
    let mut word = String::new();
    StatusWriter::new(&mut word, out.style()).device(area)?;
    Ok(word)
}
