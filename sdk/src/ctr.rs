//! `ctr`: a target from the words of a table line.

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sim_core::{
    AnyTargetType, Args, CtrError, Discarded, Errno, Features, Sector, Sectors, Target,
};

use crate::abi;
use crate::code;
use crate::instance::{Calls, Handle, Instance, pointers};
use crate::io::Devices;
use crate::target::{PluginTarget, Told, Word};

/// What is said where the plug-in says nothing, as the kernel does.
const UNKNOWN: &str = "Unknown error";
/// The room for the reason, in bytes.
const ERROR_SIZE: usize = 1024;

/// A type that a plug-in describes.
pub(crate) struct PluginType {
    pub(crate) name: String,
    pub(crate) version: [u32; 3],
    pub(crate) features: Features,
    pub(crate) calls: Calls,
}

impl AnyTargetType for PluginType {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> [u32; 3] {
        self.version
    }

    fn features(&self) -> Features {
        self.features
    }

    fn ctr(&self, args: &mut Args<'_>) -> Result<Box<dyn Target>, CtrError> {
        let mut words = Vec::new();
        for index in 0..args.count() {
            words.push(args.at(index, UNKNOWN)?.text().to_owned());
        }
        let zero_byte = |index| CtrError::new("Invalid argument").arg(index).detail("a zero byte");
        let texts = words
            .iter()
            .enumerate()
            .map(|(index, word)| CString::new(word.as_str()).map_err(|_| zero_byte(index)));
        let texts = texts.collect::<Result<Vec<CString>, CtrError>>()?;
        let access = args.access();
        let (made, opening) = call(&self.calls, &texts, args);
        let made = made.map_err(|refusal| refusal.explain(&self.name, &words, opening.failed))?;
        let mut words: Vec<Word> = words.into_iter().map(Word::Text).collect();
        for (device, arg) in opening.args.into_iter().enumerate() {
            words[arg] = Word::Device(device);
        }
        let devices = Devices { areas: opening.areas, access };
        // Goes by its dtr where something is wrong from here on.
        let instance = Instance::new(self.calls, made.handle, devices, args.runtime());
        let discarded = made.discarded.map_err(|number| {
            let why = format!("plug-in {}: ctr set discarded to {number}", self.name);
            CtrError::new(UNKNOWN).detail(why)
        })?;
        let told = Told { max_io_len: made.max_io_len, discarded };
        Ok(Box::new(PluginTarget::new(self.name.clone(), instance, told, words)))
    }
}

/// What `ctr` made.
struct Made {
    handle: Handle,
    max_io_len: Option<Sectors>,
    discarded: Result<Discarded, u32>,
}

/// What `ctr` refused with.
struct Refusal {
    code: c_int,
    text: Result<String, &'static str>,
    arg: i32,
}

impl Refusal {
    /// Says it in the words of a table's error. `opening` is why a device could not be opened.
    fn explain(self, name: &str, words: &[String], opening: Option<CtrError>) -> CtrError {
        let errno = match code::errno(self.code) {
            Some(Err(errno)) => errno,
            Some(Ok(())) | None => {
                let why = format!("plug-in {name}: ctr returned {}, which is no errno", self.code);
                return CtrError::new(UNKNOWN).detail(why);
            }
        };
        let text = match self.text {
            Ok(text) if !text.is_empty() => text,
            Ok(_) => return opening.unwrap_or(CtrError::new(UNKNOWN).errno(errno)),
            Err(why) => {
                let why = format!("plug-in {name}: ctr gave {why} as the reason");
                return CtrError::new(UNKNOWN).errno(errno).detail(why);
            }
        };
        let error = CtrError::new(text).errno(errno);
        match usize::try_from(self.arg) {
            Ok(arg) if arg < words.len() => {
                let found: String = words[arg].chars().take(64).collect();
                error.arg(arg).detail(format!("found `{found}`"))
            }
            // The place of the first word that is missing.
            Ok(arg) if arg == words.len() => error.arg(arg).detail("argument missing"),
            Ok(_) | Err(_) => error,
        }
    }
}

/// Calls a plug-in's `ctr`.
fn call<'a>(
    calls: &Calls,
    words: &[CString],
    args: &mut Args<'a>,
) -> (Result<Made, Refusal>, Opened) {
    let mut reason = vec![0u8; ERROR_SIZE];
    let argv = pointers(words);
    let read_only = u32::from(args.access().is_read_only());
    let target_len = args.target_len().0;
    let mut opening = Opening { args, opened: Opened::default() };
    let mut c_args = abi::Args {
        size: size_of::<abi::Args>() as u32,
        argc: words.len() as u32,
        argv: argv.as_ptr(),
        target_len,
        read_only,
        error_size: ERROR_SIZE as u32,
        error: reason.as_mut_ptr().cast::<c_char>(),
        error_arg: -1,
        reserved: 0,
        max_io_len: 0,
        host: std::ptr::from_mut(&mut opening).cast::<c_void>(),
        open,
        discarded: abi::DISCARDED_ANYTHING,
        reserved_1_2: 0,
    };
    let mut handle = std::ptr::null_mut();
    // SAFETY: `ctr` of the header. Everything that is pointed to lives until it returns.
    let ctr = || unsafe { (calls.ctr)(&mut c_args, &mut handle) };
    let code = calls.during("ctr", ctr);
    let arg = c_args.error_arg;
    let max_io_len = (c_args.max_io_len != 0).then_some(Sectors(c_args.max_io_len));
    let discarded = match c_args.discarded {
        abi::DISCARDED_ANYTHING => Ok(Discarded::Anything),
        abi::DISCARDED_ZEROS => Ok(Discarded::Zeros),
        abi::DISCARDED_AS_BELOW => Ok(Discarded::AsBelow),
        number => Err(number),
    };
    let made = match code {
        0 => Ok(Made { handle: Handle(handle), max_io_len, discarded }),
        code => Err(Refusal { code, text: code::text_to_zero(&reason).map(str::to_owned), arg }),
    };
    (made, opening.opened)
}

/// What `open` works on.
struct Opening<'c, 'a> {
    args: &'c mut Args<'a>,
    opened: Opened,
}

/// The devices that `ctr` opened, and the words that named them.
#[derive(Default)]
struct Opened {
    areas: Vec<sim_core::Area>,
    args: Vec<usize>,
    /// Why the last one could not be opened.
    failed: Option<CtrError>,
}

impl Opening<'_, '_> {
    fn open(&mut self, arg: u32, start: u64, len: u64) -> Result<c_int, CtrError> {
        const LOOKUP: &str = "Device lookup failed";
        let index = c_int::try_from(self.opened.areas.len()).map_err(|_| CtrError::new(LOOKUP))?;
        let word = self.args.at(arg as usize, LOOKUP)?;
        let area = self.args.area(word, Sector(start), Sectors(len), LOOKUP)?;
        self.opened.areas.push(area);
        self.opened.args.push(arg as usize);
        Ok(index)
    }
}

unsafe extern "C" fn open(args: *mut abi::Args, arg: u32, start: u64, len: u64) -> c_int {
    // SAFETY: the header asks for what `ctr` was given, or it is null.
    let Some(args) = (unsafe { args.as_ref() }) else { return code::INVALID };
    // SAFETY: `call` put it there, uses it no more until `ctr` has returned, and `ctr` opens its
    // devices one after the other.
    let Some(opening) = (unsafe { args.host.cast::<Opening<'_, '_>>().as_mut() }) else {
        return code::INVALID;
    };
    // A panic of ours must not run through the plug-in's frames.
    match catch_unwind(AssertUnwindSafe(|| opening.open(arg, start, len))) {
        Ok(Ok(index)) => index,
        Ok(Err(error)) => {
            let Errno(number) = error.errno;
            opening.opened.failed = Some(error);
            -number
        }
        Err(_panic) => code::IO,
    }
}
