//! The files of a new crate, and what its kind puts into them.

use clap::ValueEnum;

/// A file: where it goes, and its text.
pub(super) type File = (&'static str, &'static str);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../templates/new-target/", $path))
    };
}

/// The files that are the same for all kinds. These words stand for what the name and the kind make
/// of them: `target-word` for the name itself, `crate_name` and `TargetName` for what it is in Rust,
/// and those of [`Kind::put_in`].
pub(super) const SHARED: [File; 19] = [
    ("Cargo.toml", template!("Cargo.toml.in")),
    ("README.md", template!("README.md")),
    (".gitignore", template!("gitignore")),
    (".cargo/config.toml", template!("config.toml.in")),
    ("rustfmt.toml", include_str!("../../../rustfmt.toml")),
    ("program/Cargo.toml", template!("program/Cargo.toml.in")),
    ("program/src/main.rs", template!("program/src/main.rs")),
    ("bench/Cargo.toml", template!("bench/Cargo.toml.in")),
    ("bench/src/lib.rs", template!("bench/src/lib.rs")),
    ("bench/benches/target-word.rs", template!("bench/benches/target.rs")),
    ("fuzz/Cargo.toml", template!("fuzz/Cargo.toml.in")),
    ("fuzz/src/lib.rs", template!("fuzz/src/lib.rs")),
    ("fuzz/fuzz_targets/table.rs", template!("fuzz/fuzz_targets/table.rs")),
    ("fuzz/fuzz_targets/format.rs", template!("fuzz/fuzz_targets/format.rs")),
    ("fuzz/tests/seeds.rs", template!("fuzz/tests/seeds.rs")),
    ("fuzz/seeds/table/good", "7:0 table-words"),
    // A number of eight bytes of the first sector, one more than it was.
    ("fuzz/seeds/format/one-more", "\u{1}\u{3}\u{0}\u{4}\u{0}\u{1}\u{1}\u{0}"),
    ("swarm/Cargo.toml", template!("swarm/Cargo.toml.in")),
    ("swarm/src/main.rs", template!("swarm/src/main.rs")),
];

/// What the target of a new crate does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Sends each bio on to another place
    #[default]
    Remap,
    /// Changes the data on the way, and keeps nothing
    Transform,
    /// Waits: timers, messages, suspends
    Async,
    /// Stores metadata: a log, whose content a power cut leaves whole
    Log,
}

/// What is different in the files of a kind.
struct Words {
    /// What follows the device in a table line: as it is described, and one that is right.
    usage: &'static str,
    table: &'static str,
    about: &'static str,
    /// The lines of dependencies besides `sim-core`.
    dependencies: &'static [&'static str],
}

const FUTURES: &str =
    "futures-util = { version = \"0.3\", default-features = false, features = [\"std\"] }\n";

impl Kind {
    /// Every kind.
    #[cfg(test)]
    pub(super) const ALL: [Kind; 4] = [Kind::Remap, Kind::Transform, Kind::Async, Kind::Log];

    /// Returns the files of the kind's own.
    pub(super) fn files(self) -> &'static [File] {
        match self {
            Kind::Remap => &[
                ("src/lib.rs", template!("kinds/remap/lib.rs")),
                ("tests/conformance.rs", template!("kinds/remap/conformance.rs")),
            ],
            Kind::Transform => &[
                ("src/lib.rs", template!("kinds/transform/lib.rs")),
                ("tests/conformance.rs", template!("kinds/transform/conformance.rs")),
            ],
            Kind::Async => &[
                ("src/lib.rs", template!("kinds/async/lib.rs")),
                ("tests/conformance.rs", template!("kinds/async/conformance.rs")),
            ],
            Kind::Log => &[
                ("src/lib.rs", template!("kinds/log/lib.rs")),
                ("src/block.rs", template!("kinds/log/block.rs")),
                ("tests/conformance.rs", template!("kinds/log/conformance.rs")),
            ],
        }
    }

    fn words(self) -> Words {
        match self {
            Kind::Remap => Words {
                usage: "<start>",
                table: "0",
                about: "Maps the target onto the range of a device that begins at sector \
                        `<start>`, its chunks\nof 128 sectors in reverse order.",
                dependencies: &[],
            },
            Kind::Transform => Words {
                usage: "<start> <key>",
                table: "0 00000000deadbeef",
                about: "Stores its data changed by a key, in the range of a device that begins \
                        at sector\n`<start>`. It keeps nothing: no metadata, no order, nothing to \
                        recover.",
                dependencies: &[],
            },
            Kind::Async => Words {
                usage: "<start> <ms>",
                table: "0 5",
                about: "Holds each bio for `<ms>` milliseconds before it is sent on. The message \
                        `delay <ms>`\nchanges the time, and a suspend lets all go.",
                dependencies: &[FUTURES],
            },
            Kind::Log => Words {
                usage: "<start>",
                table: "0",
                about: "Stores its data by a log: a write is appended, and moved home when the \
                        log is full. What a\nflush or FUA has promised is there after any power \
                        cut. The target takes blocks of 4 KiB; the range\nof the device that \
                        begins at sector `<start>` is an eighth longer and some, and zeros at \
                        first.",
                dependencies: &["crc32fast = \"1.5\"\n", FUTURES],
            },
        }
    }

    /// Puts in what the kind makes of a text.
    pub(super) fn put_in(self, text: &str) -> String {
        let words = self.words();
        let text = text.replace("usage-words", &format!("<dev> {}", words.usage));
        let text = text.replace("shell-words", &format!("/dev/sda {}", words.table));
        let seal = match self {
            Kind::Log => {
                "\n    let suite = suite.seal(\"a\", |disk| crate_name::seal(&mut disk[16 * 512..]));"
            }
            _ => "",
        };
        let text = text.replace("@SEAL@", seal);
        let text = text.replace("table-words", words.table).replace("about-target", words.about);
        text.replace("@DEPENDENCIES@\n", &format!("{}\n", words.dependencies.concat()))
    }
}
