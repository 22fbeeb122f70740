//! The page that says of each of dmsetup's verbs and options whether ours does the same.
//!
//! `equal` is what other tests hold: each recorded command is replayed, and answered as the real one was, unless
//! `not_equal.rs` has a reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dmsim_cli::dmsetup::{Called, Used, option_names, used, verb_names};

use crate::not_equal::NOT_EQUAL;
use crate::script::{Step, parse, words};

/// Set to write the page, where it says something else.
const WRITE: &str = "DMSIM_WRITE_DOCS";

/// Whether ours does what the real one does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Equal,
    Differs,
    Impossible,
}

use Verdict::{Differs, Equal, Impossible};

/// What is to be said besides, of a verb or an option (with two dashes). What is not here is equal.
const NOTES: &[(&str, Verdict, &str)] = &[
    (
        "create",
        Differs,
        "with `-j`: mapped devices are 253:N, and another major number is refused; the kernel makes 253:N, which \
         dmsetup then does not find",
    ),
    ("clear", Differs, "with `-S` and `-v` dmsetup ends by a signal; ours prints the device"),
    (
        "mangle",
        Differs,
        "of a device given by `-u` or `-j` and `-m` dmsetup ends by a signal; ours renames it",
    ),
    ("mknodes", Equal, "nothing is left to make: a device's file is there as long as the device"),
    (
        "targets",
        Differs,
        "the types that there are here; the kernel lists the modules that it has loaded",
    ),
    (
        "stats create",
        Differs,
        "a wrong `--bounds` is refused in one line; dmstats tells of memory that it has lost besides",
    ),
    ("stats print", Differs, "each region once; dmstats prints it twice with `--allregions`"),
    (
        "stats update_filemap",
        Impossible,
        "as `--filemap`: the file system that has the file lies on a loop device over the mapped device's file",
    ),
    ("wait", Equal, "also `dmsim wait --sync`, `--merge`"),
    ("udevcookies", Equal, "`udevcookie` in the man page, which no dmsetup knows"),
    (
        "udevcreatecookie",
        Equal,
        "without a udev (`/run/udev/control`) cookies mean nothing, and none is printed",
    ),
    (
        "table",
        Differs,
        "with `--exec` and `-v`, to a file, what the program prints comes in its place, and not before all else",
    ),
    ("ls", Differs, "as `table`, with `--exec` and `-v`"),
    (
        "--exec",
        Differs,
        "the program is given the device's file in the mount; in `dmsim shell`, `/dev/mapper/NAME`",
    ),
    (
        "--filemap",
        Impossible,
        "the file system that has the file lies on a loop device over the mapped device's file, not on the mapped \
         device",
    ),
    ("--follow", Impossible, "as `--filemap`"),
    ("--foreground", Impossible, "as `--filemap`"),
    ("--nomonitor", Impossible, "as `--filemap`"),
    ("--major", Differs, "as `create`"),
    (
        "--verbose",
        Differs,
        "from the second `-v` on dmsetup prints what libdevmapper does, which ours is not made of; `--verbose` takes \
         an argument, as it does there",
    ),
    ("--nolockfs", Equal, "no file system is frozen here without it either"),
    ("--noudevrules", Equal, "no udev has rules for these devices"),
    ("--verifyudev", Equal, "no udev makes nodes that could be wrong"),
    (
        "--udevcookie",
        Equal,
        "the cookie is raised, and lowered at once: there is no udev to wait for",
    ),
    ("--unbuffered", Equal, "not read there either"),
];

/// What the environment says.
const ENVIRONMENT: &[(&str, Verdict, &str)] = &[
    (
        "DM_DEV_DIR",
        Differs,
        "has to be absolute, and moves nothing: devices' files are in the mount",
    ),
    ("DM_UDEV_COOKIE", Equal, "as `--udevcookie`"),
    ("DM_DISABLE_UDEV", Equal, "set in `dmsim shell`"),
    ("DM_DEFAULT_NAME_MANGLING_MODE", Equal, "as `--manglename`"),
];

/// How often something was recorded, and how often it need not be equal.
#[derive(Default)]
struct Count {
    recorded: usize,
    excused: usize,
}

type Counts = BTreeMap<String, Count>;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Counts what the recordings of dmsetup use.
fn counts() -> Counts {
    let mut counts = Counts::new();
    let mut cases: Vec<_> = std::fs::read_dir(tests().join("transcripts"))
        .expect("the cases")
        .map(|entry| entry.expect("a case").file_name().into_string().expect("a name"))
        .filter(|case| ["dmsetup-", "dmstats-", "lifecycle-"].iter().any(|of| case.starts_with(of)))
        .collect();
    cases.sort();
    for case in cases {
        let path = tests().join("transcripts").join(&case).join("transcript");
        let text = std::fs::read_to_string(path).expect("the transcript");
        let mut seen = BTreeMap::<String, usize>::new();
        for step in parse(&text) {
            let Step::Run { line, .. } = step else { continue };
            let nth = seen.entry(line.clone()).or_default();
            let mut known = NOT_EQUAL.iter().filter(|known| known.case == case);
            let is_excused = known.any(|known| {
                known.what.iter().any(|(known, which)| *known == line && which.contains(nth))
            });
            *nth += 1;
            count(&mut counts, &line, is_excused);
        }
    }
    let cookies = std::fs::read_to_string(tests().join("cookies/recorded")).expect("the recording");
    for line in cookies.lines().filter_map(|line| line.strip_prefix("$ ")) {
        count(&mut counts, line, false);
    }
    counts
}

fn count(counts: &mut Counts, line: &str, is_excused: bool) {
    let mut words = words(line).expect("quotes are closed");
    if let Some(at) = words.iter().position(|word| word == "<<") {
        words.truncate(at);
    }
    let program = words.iter().position(|word| !word.contains('='));
    let Some((program, args)) = program.and_then(|at| words[at..].split_first()) else { return };
    let called = match program.as_str() {
        "dmsetup" => Called::Dmsetup,
        "dmstats" => Called::Dmstats,
        _ => return,
    };
    let Used { verb, options } = used(called, args);
    let options = options.into_iter().map(|name| format!("--{name}"));
    for (nth, name) in verb.into_iter().chain(options).enumerate() {
        let count = counts.entry(name).or_default();
        count.recorded += 1;
        // Where one command is not equal, it is its verb's doing.
        count.excused += usize::from(is_excused && nth == 0);
    }
}

/// Writes one table, and checks what it claims.
fn table(head: &str, rows: impl Iterator<Item = (String, String)>, counts: &Counts) -> String {
    let mut text = format!("| {head} | | recorded | |\n|---|---|---|---|\n");
    for (name, shown) in rows {
        let note = NOTES.iter().find(|note| note.0 == name);
        let (verdict, why) = note.map_or((Equal, ""), |(_, verdict, why)| (*verdict, *why));
        let none = Count::default();
        let Count { recorded, excused } = counts.get(&name).unwrap_or(&none);
        assert!(verdict != Equal || *recorded > 0, "{name} is equal, and was never recorded");
        assert!(verdict != Equal || *excused == 0, "{name} is equal, and not_equal.rs has some");
        let verdict = match verdict {
            Equal => "equal",
            Differs => "differs",
            Impossible => "impossible",
        };
        text += &format!("| {shown} | {verdict} | {recorded} | {why} |\n");
    }
    text
}

fn page(counts: &Counts) -> String {
    let (stats, verbs): (Vec<String>, Vec<String>) =
        verb_names().partition(|name| name.starts_with("stats "));
    let shown = |name: String| (name.clone(), format!("`{name}`"));
    let options = option_names().map(|(name, letters)| {
        let letters: String = letters.iter().map(|letter| format!(", `-{letter}`")).collect();
        (format!("--{name}"), format!("`--{name}`{letters}"))
    });
    let mut text = table("verb", verbs.into_iter().map(shown), counts);
    text += "| `devmap_name` | differs | 0 | not there, as no package has it: `dmsetup info -c --noheadings -o name \
             -j MAJOR -m MINOR` says the same |\n\n";
    text += &table("verb of `dmstats`, `dmsetup stats`", stats.into_iter().map(shown), counts);
    text += "\n";
    text += &table("option", options, counts);
    text += "\n| in the environment | | |\n|---|---|---|\n";
    for (name, verdict, why) in ENVIRONMENT {
        let verdict = if *verdict == Equal { "equal" } else { "differs" };
        text += &format!("| `{name}` | {verdict} | {why} |\n");
    }
    text
}

#[test]
fn the_page_of_dmsetup_has_each_verb_and_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/dmsetup.md");
    let text = std::fs::read_to_string(&path).expect("the page");
    let (begin, end) = ("<!-- rows -->\n", "<!-- end -->\n");
    let (head, rest) = text.split_once(begin).expect("a table");
    let (tables, tail) = rest.split_once(end).expect("its end");
    let expected = page(&counts());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, [head, begin, &expected, end, tail].concat()).expect("the page");
        return;
    }
    assert!(tables == expected, "docs/dmsetup-page writes the tables:\n{expected}");
}

#[test]
fn what_is_noted_is_a_verb_or_an_option() {
    let options = option_names().map(|(name, _)| format!("--{name}"));
    let names: Vec<String> = verb_names().chain(options).collect();
    for (name, _, why) in NOTES {
        assert!(names.iter().any(|known| known == name) && !why.is_empty(), "{name}");
    }
}
