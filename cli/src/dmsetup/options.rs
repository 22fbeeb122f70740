//! The options: parsed as getopt_long does, with its error texts.

use super::dm::Called;
use super::known::{ADDED, KNOWN, Known, Takes};
use super::udev;
use super::verbs::stats::Statistics;
use daemon::mangle::Mode;

/// The options of one command line, whatever the verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) verbose: u32,
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) columns: bool,
    pub(super) force: bool,
    pub(super) read_only: bool,
    pub(super) noflush: bool,
    pub(super) inactive: bool,
    pub(super) notable: bool,
    pub(super) concise: bool,
    pub(super) deferred: bool,
    pub(super) retry: bool,
    pub(super) setuuid: bool,
    pub(super) showkeys: bool,
    pub(super) tree: bool,
    pub(super) noheadings: bool,
    pub(super) nameprefixes: bool,
    pub(super) unquoted: bool,
    pub(super) rows: bool,
    pub(super) json: bool,
    /// Nothing is said of what was done as asked, and may not have been meant.
    pub(super) quiet: bool,
    pub(super) device_names: bool,
    pub(super) noudevsync: bool,
    /// All that would be asked is answered: yes.
    pub(super) yes: bool,
    pub(super) udev_cookie: Option<u32>,
    /// How many cookies are no numbers, each of which is told.
    pub(super) bad_cookies: u32,
    pub(super) on_resume: bool,
    pub(super) on_create: bool,
    pub(super) table: Option<String>,
    pub(super) uuid: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) fields: Option<String>,
    pub(super) sort: Option<String>,
    pub(super) select: Option<String>,
    pub(super) separator: Option<String>,
    pub(super) target: Option<String>,
    pub(super) exec: Option<String>,
    pub(super) read_ahead: ReadAhead,
    pub(super) count: Option<u32>,
    pub(super) interval_s: Option<u32>,
    pub(super) mangling: Option<Mode>,
    pub(super) statistics: Statistics,
}

/// What `--readahead` asks for, in sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ReadAhead {
    /// As the device has it.
    #[default]
    Auto,
    /// Exactly this.
    Exactly(u64),
    /// This, where the device has less.
    AtLeast(u64),
}

/// Splits a command line into options and words.
///
/// # Errors
/// The lines to print of what is wrong with it.
pub(super) fn parse(
    called: Called,
    args: &[String],
) -> Result<(Options, Vec<String>), Vec<String>> {
    let mut options = Options::default();
    let words = each(called, args, &mut |name, value| options.set(name, value))?;
    options.check()?;
    Ok((options, words))
}

/// Returns the long names of the options in a command line, as far as it can be read, and its words.
pub(super) fn names(called: Called, args: &[String]) -> (Vec<&'static str>, Vec<String>) {
    let mut names = Vec::new();
    let words = each(called, args, &mut |name, _| {
        names.push(name);
        Ok(())
    });
    (names, words.unwrap_or_default())
}

/// Lists dmsetup's options: the long name, and the letters.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Vec<char>)> {
    KNOWN.iter().map(|(name, letter, _)| {
        let another = (*letter == Some('c')).then_some('C');
        (*name, letter.iter().copied().chain(another).collect())
    })
}

/// What an option is given to, with its value.
type Take<'a> = dyn FnMut(&'static str, String) -> Result<(), Vec<String>> + 'a;

fn each(called: Called, args: &[String], take: &mut Take<'_>) -> Result<Vec<String>, Vec<String>> {
    let mut words = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            words.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = take_long(called, long, &mut rest).map_err(|text| vec![text])?;
            take(name, value)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            take_short(called, &arg[1..], &mut rest, take)?;
        } else {
            words.push(arg.clone());
        }
    }
    Ok(words)
}

fn program(called: Called) -> &'static str {
    match called {
        Called::Dmsetup => "dmsetup",
        Called::Dmstats => "dmstats",
        Called::Dmsim => "dmsim",
    }
}

/// Reads what follows two dashes: a name or the beginning of one, and its argument.
fn take_long<'a>(
    called: Called,
    long: &str,
    rest: &mut std::slice::Iter<'a, String>,
) -> Result<(&'static str, String), String> {
    let program = program(called);
    let (word, given) = match long.split_once('=') {
        Some((word, given)) => (word, Some(given.to_owned())),
        None => (long, None),
    };
    let added = match called {
        Called::Dmsetup | Called::Dmstats => &[],
        Called::Dmsim => ADDED,
    };
    let all = || KNOWN.iter().chain(added);
    let fits: Vec<&Known> = match all().find(|known| known.0 == word) {
        Some(exact) => vec![exact],
        None => all().filter(|known| known.0.starts_with(word)).collect(),
    };
    let (name, takes) = match fits[..] {
        // dmsetup takes the letter alone without an argument, whatever its help says.
        [("verbose", _, _)] if called != Called::Dmsim => ("verbose", Takes::Argument),
        [(name, _, takes)] => (*name, *takes),
        [] => return Err(format!("{program}: unrecognized option '--{word}'")),
        _ => {
            let names: String = fits.iter().map(|known| format!(" '--{}'", known.0)).collect();
            return Err(format!(
                "{program}: option '--{word}' is ambiguous; possibilities:{names}"
            ));
        }
    };
    match (takes, given) {
        (Takes::Nothing, None) => Ok((name, String::new())),
        (Takes::Nothing, Some(_)) => {
            Err(format!("{program}: option '--{name}' doesn't allow an argument"))
        }
        (Takes::Argument, Some(given)) => Ok((name, given)),
        (Takes::Argument, None) => match rest.next() {
            Some(next) => Ok((name, next.clone())),
            None => Err(format!("{program}: option '--{name}' requires an argument")),
        },
    }
}

/// Reads what follows one dash: letters, and the argument of the last.
fn take_short(
    called: Called,
    letters: &str,
    rest: &mut std::slice::Iter<'_, String>,
    take: &mut Take<'_>,
) -> Result<(), Vec<String>> {
    let program = program(called);
    for (at, letter) in letters.char_indices() {
        // Both letters mean the same.
        let known = if letter == 'C' { 'c' } else { letter };
        let Some((name, _, takes)) = KNOWN.iter().find(|option| option.1 == Some(known)) else {
            return Err(vec![format!("{program}: invalid option -- '{letter}'")]);
        };
        if *takes == Takes::Nothing {
            take(name, String::new())?;
            continue;
        }
        let joined = &letters[at + letter.len_utf8()..];
        let value = match joined.is_empty() {
            false => Some(joined.to_owned()),
            true => rest.next().cloned(),
        };
        let Some(value) = value else {
            return Err(vec![format!("{program}: option requires an argument -- '{letter}'")]);
        };
        return take(name, value);
    }
    Ok(())
}

impl Options {
    fn set(&mut self, name: &str, value: String) -> Result<(), Vec<String>> {
        match name {
            "verbose" => self.verbose += 1,
            "help" => self.help = true,
            "version" => self.version = true,
            "columns" => self.columns = true,
            "force" => self.force = true,
            "readonly" => self.read_only = true,
            "noflush" => self.noflush = true,
            "inactive" => self.inactive = true,
            "notable" => self.notable = true,
            "concise" => self.concise = true,
            "deferred" => self.deferred = true,
            "retry" => self.retry = true,
            "setuuid" => self.setuuid = true,
            "showkeys" => self.showkeys = true,
            "tree" => self.tree = true,
            "noheadings" => self.noheadings = true,
            "nameprefixes" => self.nameprefixes = true,
            "unquoted" => self.unquoted = true,
            "rows" => self.rows = true,
            "quiet" => self.quiet = true,
            "json" => self.json = true,
            "device-names" => self.device_names = true,
            "noudevsync" => self.noudevsync = true,
            "yes" => self.yes = true,
            "udevcookie" => {
                self.udev_cookie = udev::number(&value);
                self.bad_cookies += u32::from(self.udev_cookie.is_none());
            }
            "addnodeonresume" => self.on_resume = true,
            "addnodeoncreate" => self.on_create = true,
            "table" => self.table = Some(value),
            "uuid" => self.uuid = Some(value),
            "major" => self.major = Some(number(&value)),
            "minor" => self.minor = Some(number(&value)),
            "uid" => self.uid = Some(number(&value)),
            "gid" => self.gid = Some(number(&value)),
            "mode" => self.mode = Some(file_mode(&value)?),
            "options" => self.fields = Some(value),
            "sort" => self.sort = Some(value),
            "select" => self.select = Some(value),
            "separator" => self.separator = Some(value),
            "target" => self.target = Some(value),
            "exec" => self.exec = Some(value),
            "readahead" => self.read_ahead = read_ahead(&value)?,
            "count" => self.count = Some(count(&value)?),
            "interval" => self.interval_s = Some(interval(&value)?),
            "manglename" => {
                let unknown = || vec!["Unknown name mangling mode.".to_owned()];
                self.mangling = Some(Mode::named(&value).ok_or_else(unknown)?);
            }
            // Of udev, or how dmsetup itself works: nothing to do here.
            _ => self.statistics.set(name, value),
        }
        Ok(())
    }

    /// Refuses what does not go together.
    fn check(&self) -> Result<(), Vec<String>> {
        let refuse = |text: &str| Err(vec![text.to_owned()]);
        if self.major.is_some() != self.minor.is_some() {
            return refuse("Please specify both major number and minor number.");
        }
        if self.table.is_some() && self.notable {
            return refuse("--table and --notable are incompatible.");
        }
        if self.on_resume && self.on_create {
            return refuse("--addnodeonresume and --addnodeoncreate are incompatible.");
        }
        Ok(())
    }

    /// Tells whether a device is named by `-u` or by `-j` and `-m`.
    pub(super) fn names_a_device(&self) -> bool {
        self.uuid.is_some() || self.minor.is_some()
    }
}

/// Reads a number as `atoi` does: what comes after the digits is not looked at.
pub(super) fn number(text: &str) -> u32 {
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().unwrap_or(if digits == 0 { 0 } else { u32::MAX })
}

fn file_mode(text: &str) -> Result<u32, Vec<String>> {
    let bad = |_| vec![format!("Invalid argument for --mode: {text}. ")];
    match u32::from_str_radix(text, 8).map_err(bad)? {
        0 => Err(vec![format!("Invalid argument for --mode: {text}. ")]),
        mode => Ok(mode),
    }
}

fn count(text: &str) -> Result<u32, Vec<String>> {
    match text.trim_start().strip_prefix('-').map(number) {
        None | Some(0) => Ok(number(text)),
        Some(_) => Err(vec!["Count must be zero or greater.".to_owned()]),
    }
}

fn interval(text: &str) -> Result<u32, Vec<String>> {
    match number(text) {
        0 => Err(vec!["Interval must be a positive integer.".to_owned()]),
        seconds => Ok(seconds),
    }
}

fn read_ahead(text: &str) -> Result<ReadAhead, Vec<String>> {
    let text = text.trim_start();
    // The kernel counts read-ahead in pages.
    let in_pages = |text: &str| u64::from(number(text)).next_multiple_of(8);
    match (text.as_bytes().first(), text) {
        (_, "auto" | "-1") => Ok(ReadAhead::Auto),
        (_, "none") => Ok(ReadAhead::Exactly(0)),
        (Some(b'-'), _) => {
            Err(vec![format!("Negative read ahead value ({text}) is not understood.")])
        }
        (Some(b'+'), _) => Ok(ReadAhead::AtLeast(in_pages(&text[1..]))),
        _ => Ok(ReadAhead::Exactly(in_pages(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: &str) -> Result<(Options, Vec<String>), Vec<String>> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(Called::Dmsetup, &args)
    }

    fn fault(text: &str) -> String {
        line(text).expect_err("a fault").join("\n")
    }

    #[test]
    fn options_go_anywhere_until_two_dashes() {
        let (options, words) = line("create -r x --notable -- -v").unwrap();
        assert!(options.read_only && options.notable && options.verbose == 0);
        assert_eq!(words, ["create", "x", "-v"]);
    }

    #[test]
    fn an_argument_may_be_joined_to_its_option() {
        let (options, _) = line("info -j253 -m0 --sep=, -vcv").unwrap();
        assert_eq!((options.major, options.minor), (Some(253), Some(0)));
        assert_eq!(options.separator.as_deref(), Some(","));
        assert_eq!((options.verbose, options.columns), (2, true));
    }

    #[test]
    fn the_last_of_several_counts() {
        assert_eq!(line("--table=a --table=b").unwrap().0.table.as_deref(), Some("b"));
    }

    #[test]
    fn faults_read_as_those_of_getopt() {
        assert_eq!(fault("--bogus"), "dmsetup: unrecognized option '--bogus'");
        assert_eq!(fault("-x"), "dmsetup: invalid option -- 'x'");
        assert_eq!(fault("-o"), "dmsetup: option requires an argument -- 'o'");
        assert_eq!(fault("--tabl"), "dmsetup: option '--table' requires an argument");
        assert_eq!(fault("--noflush=3"), "dmsetup: option '--noflush' doesn't allow an argument");
        assert_eq!(
            fault("--ver"),
            "dmsetup: option '--ver' is ambiguous; possibilities: '--verbose' '--verifyudev' '--version'"
        );
        assert_eq!(fault("--json"), "dmsetup: unrecognized option '--json'");
        assert_eq!(fault("-M 9"), "Invalid argument for --mode: 9. ");
        assert_eq!(fault("--verbose"), "dmsetup: option '--verbose' requires an argument");
        assert_eq!(fault("--count -1"), "Count must be zero or greater.");
    }

    #[test]
    fn a_device_number_has_two_parts() {
        assert_eq!(fault("-j 253"), "Please specify both major number and minor number.");
    }

    #[test]
    fn read_ahead_is_whole_pages() {
        assert_eq!(read_ahead("7"), Ok(ReadAhead::Exactly(8)));
        assert_eq!(read_ahead("+512"), Ok(ReadAhead::AtLeast(512)));
        assert_eq!(read_ahead("none"), Ok(ReadAhead::Exactly(0)));
        assert!(read_ahead("-5").is_err());
    }
}
