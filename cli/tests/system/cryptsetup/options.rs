//! The options of cryptsetup, one by one: the rows of the table in `docs/src/cryptsetup.md`, each run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::rows::Does::{Nothing, Own, Refused, Same, Warns};
use super::rows::{OPEN, Row};
use super::{CHEAP, empty};
use crate::harness::{DMSIM, Instance, has, sh, text};

/// The rows of the other verbs.
const OTHER_ROWS: &[Row] = &[
    ("close", "--header", "$D open -d $KEY $LUKS d; $D close --header $HEADER d", Nothing),
    ("close", "--deferred", "$D open -d $KEY $LUKS d; $D close --deferred d", Same),
    (
        "close",
        "--cancel-deferred",
        "$D close --cancel-deferred d",
        Refused("@cancel_deferred_remove"),
    ),
    ("close", "--disable-locks", "$D open -d $KEY $LUKS d; $D close --disable-locks d", Nothing),
    ("close", "--batch-mode", "$D open -d $KEY $LUKS d; $D close --batch-mode d", Nothing),
    ("close", "--verbose, -v", "$D open -d $KEY $LUKS d; $D close -v d", Nothing),
    ("close", "--debug, --debug-json", "$D open -d $KEY $LUKS d; $D close --debug d", Nothing),
    (
        "status",
        "the verb",
        "$D open -d $KEY $LUKS d; $D status d",
        Own("dmsetup's `status`; `dmsim info d` and `dmsim table d` say what cryptsetup's says"),
    ),
    (
        "status",
        "--header",
        "$D status --header $HEADER d",
        Refused("unrecognized option '--header'"),
    ),
    (
        "status",
        "--disable-locks",
        "$D status --disable-locks d",
        Refused("unrecognized option '--disable-locks'"),
    ),
    ("luksDump", "the verb", "$D dump $LUKS", Own("`dmsim dump IMAGE`")),
    ("luksDump", "--type", "$D dump --type luks2 $LUKS", Same),
    ("luksDump", "--header", "$D dump --header $HEADER $APART", Same),
    (
        "luksDump",
        "--dump-json-metadata",
        "$D dump --dump-json-metadata $LUKS",
        Refused("--dump-json-metadata: --json"),
    ),
    (
        "luksDump",
        "--dump-volume-key, --dump-master-key",
        "$D dump --dump-volume-key $LUKS",
        Refused("--dump-volume-key: no key is derived"),
    ),
    (
        "luksDump",
        "--volume-key-file, --master-key-file",
        "$D dump --volume-key-file $RAW $LUKS",
        Refused("--volume-key-file: no key is needed"),
    ),
    (
        "luksDump",
        "--key-file, -d",
        "$D dump --key-file $KEY $LUKS",
        Refused("--key-file: no key is needed"),
    ),
    (
        "luksDump",
        "--keyfile-offset",
        "$D dump --keyfile-offset 1 $LUKS",
        Refused("--keyfile-offset: no key is needed"),
    ),
    (
        "luksDump",
        "--keyfile-size, -l",
        "$D dump --keyfile-size 1 $LUKS",
        Refused("--keyfile-size: no key is needed"),
    ),
    (
        "luksDump",
        "--key-slot, -S",
        "$D dump --key-slot 0 $LUKS",
        Refused("--key-slot: no key is needed"),
    ),
    ("luksDump", "--unbound", "$D dump --unbound $LUKS", Refused("--unbound: no key is derived")),
    (
        "luksDump",
        "--timeout, -t",
        "$D dump --timeout 5 $LUKS",
        Refused("--timeout: no key is needed"),
    ),
    ("luksDump", "--disable-locks", "$D dump --disable-locks $LUKS", Nothing),
    (
        "luksDump",
        "--batch-mode",
        "$D dump --batch-mode $LUKS",
        Own("`-q` is `--quiet`: nothing is printed"),
    ),
    ("luksDump", "--verbose, -v", "$D dump -v $LUKS", Nothing),
    ("luksDump", "--debug, --debug-json", "$D dump --debug $LUKS", Nothing),
    (
        "isLuks",
        "the verb",
        "$D dump --quiet --type luks $LUKS",
        Own("`dmsim dump --quiet --type luks IMAGE`, exit status 0 or 4"),
    ),
    (
        "isLuks",
        "the verb, typed as it is",
        "$D isLuks $LUKS",
        Refused("isLuks: that is `dmsim dump --quiet --type luks IMAGE` here"),
    ),
    ("isLuks", "--type", "$D dump --quiet --type luks2 $LUKS", Same),
    ("isLuks", "--header", "$D dump --quiet --type luks --header $HEADER $APART", Same),
    (
        "isLuks",
        "--verbose, -v",
        "$D dump --quiet -v $LUKS",
        Own("without `--quiet` the reason is printed"),
    ),
    ("isLuks", "--disable-locks", "$D dump --quiet --disable-locks $LUKS", Nothing),
    ("luksUUID", "the verb", "$D dump --uuid $LUKS", Own("`dmsim dump --uuid IMAGE`")),
    ("luksUUID", "--type", "$D dump --uuid --type luks2 $LUKS", Same),
    ("luksUUID", "--header", "$D dump --uuid --header $HEADER $APART", Same),
    (
        "luksUUID",
        "--uuid",
        "$D dump --uuid=12345678-1234-1234-1234-123456789abc $LUKS",
        Refused("unexpected value"),
    ),
    ("luksUUID", "--disable-locks", "$D dump --uuid --disable-locks $LUKS", Nothing),
    (
        "any",
        "--help, -?",
        "$D open --help",
        Own("`-h` too, but for `open`, where it is `--hash`; no `-?`"),
    ),
    ("any", "--usage", "$D open --usage", Refused("unexpected argument '--usage'")),
    ("any", "--version, -V", "$D --version", Own("`dmsim --version`, before any verb")),
    (
        "any",
        "--test-args",
        "$D open --test-args $LUKS d",
        Refused("unexpected argument '--test-args'"),
    ),
];

fn rows() -> impl Iterator<Item = &'static Row> {
    OPEN.iter().chain(OTHER_ROWS)
}

/// Options that are for other verbs of cryptsetup: formatting, key slots, tokens, reencryption.
const OTHERS: &[&str] = &[
    "--active-name",
    "--align-payload",
    "--block-size",
    "--decrypt",
    "--encrypt",
    "--force-offline-reencrypt",
    "--force-password",
    "--header-backup-file",
    "--hotzone-size",
    "--init-only",
    "--integrity",
    "--integrity-legacy-padding",
    "--integrity-no-journal",
    "--integrity-no-wipe",
    "--iter-time",
    "--json-file",
    "--keep-key",
    "--key-description",
    "--keyslot-cipher",
    "--keyslot-key-size",
    "--label",
    "--luks2-keyslots-size",
    "--luks2-metadata-size",
    "--new",
    "--new-key-slot",
    "--new-keyfile",
    "--new-keyfile-offset",
    "--new-keyfile-size",
    "--new-token-id",
    "--pbkdf",
    "--pbkdf-force-iterations",
    "--pbkdf-memory",
    "--pbkdf-parallel",
    "--priority",
    "--progress-frequency",
    "--progress-json",
    "--reduce-device-size",
    "--resilience",
    "--resilience-hash",
    "--resume-only",
    "--subsystem",
    "--token-replace",
    "--use-directio",
    "--use-fsync",
    "--use-random",
    "--use-urandom",
    "--write-log",
];

/// Makes the images and files of the rows.
fn prepare(instance: &Instance) {
    fs::write(instance.path("key"), "secret").expect("room for it");
    fs::write(instance.path("raw"), (0..64).collect::<Vec<u8>>()).expect("room for it");
    let key = instance.path("key");
    empty(instance, "plain", 1 << 20);
    let (luks, apart) = (empty(instance, "luks", 32 << 20), empty(instance, "apart", 1 << 20));
    let format = ["-q", "luksFormat", "--type", "luks2", "--key-file", text(&key)];
    let header = instance.path("header");
    sh("cryptsetup", &[&format, CHEAP, &[text(&luks)]].concat());
    sh("cryptsetup", &[&format, CHEAP, &["--header", text(&header), text(&apart)]].concat());
}

#[test]
fn each_option_of_cryptsetup_does_what_the_table_says() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    prepare(&instance);
    let words = [
        ("$LUKS", "luks"),
        ("$APART", "apart"),
        ("$HEADER", "header"),
        ("$KEY", "key"),
        ("$PLAIN", "plain"),
        ("$RAW", "raw"),
        ("$D", DMSIM),
    ];
    for (verb, option, command, does) in rows() {
        let script =
            words.iter().fold((*command).to_owned(), |text, (from, to)| text.replace(from, to));
        let output = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(instance.path("."))
            .env("DMSIM_DIR", instance.path("run"))
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let errors = String::from_utf8_lossy(&output.stderr);
        let told = format!("{verb} {option}: {command}: {output:?}");
        // An image without a volume says that much: the option was taken.
        let is_tcrypt = command.contains("--type tcrypt");
        let ends_well = if is_tcrypt {
            errors.contains("no key available") || errors.contains("passphrase")
        } else {
            output.status.success()
        };
        match does {
            Same | Own(_) => assert!(ends_well, "{told}"),
            Nothing => assert!(ends_well && !errors.contains("ignored"), "{told}"),
            Warns(words) => {
                assert!(
                    ends_well && errors.contains("warning: ") && errors.contains(words),
                    "{told}"
                );
            }
            Refused(words) => assert!(
                matches!(output.status.code(), Some(1 | 2)) && errors.contains(words),
                "{told}"
            ),
        }
        // None is left of a row that was refused.
        let left = instance.run(&["info", "d"]).status.success();
        if left {
            assert!(!matches!(does, Refused(_)), "{told}");
            instance.dmsim(&["remove", "d"]);
        }
    }
}

/// Finds the long options in a text.
fn options_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    words.filter(|word| word.starts_with("--") && word.len() > 2).collect()
}

#[test]
fn the_table_has_every_option_of_the_cryptsetup_that_is_here() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let help = sh("cryptsetup", &["--help"]);
    // `--dump-volume-key-file` is a slip of that text.
    let help = help.replace("--dump-volume-key-file", "--volume-key-file");
    let rows: BTreeSet<&str> = rows().flat_map(|(_, option, ..)| options_in(option)).collect();
    let known = |option: &&str| rows.contains(*option) || OTHERS.contains(option);
    let missing: Vec<&str> =
        options_in(&help).into_iter().filter(|option| !known(option)).collect();
    // Newer ones have more.
    let version = sh("cryptsetup", &["--version"]);
    assert!(missing.is_empty() || !version.contains(" 2.6."), "{missing:?}");
}

/// Set to write the table, where the rows are others.
const WRITE: &str = "DMSIM_WRITE_DOCS";

#[test]
fn the_table_of_options_says_what_the_rows_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/cryptsetup.md");
    let text = fs::read_to_string(&path).expect("the page");
    let (begin, end) = ("<!-- rows -->\n", "<!-- end -->\n");
    let (head, rest) = text.split_once(begin).expect("a table");
    let (table, tail) = rest.split_once(end).expect("its end");
    let mut lines =
        String::from("| verb | option | what becomes of it | tried as |\n|---|---|---|---|\n");
    for (verb, option, command, does) in rows() {
        let does = match does {
            Same => "the same".to_owned(),
            Own(how) => (*how).to_owned(),
            Nothing => {
                "taken, and changes nothing: there is nothing to do or to turn off".to_owned()
            }
            Warns(words) => format!("a warning: *{words}*"),
            Refused(words) => format!("refused: *{words}*"),
        };
        let command = command.replace("$D", "dmsim").replace('|', "\\|");
        lines += &format!("| {verb} | `{option}` | {does} | `{command}` |\n");
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, [head, begin, &lines, end, tail].concat()).expect("the page");
        return;
    }
    assert!(table == lines, "with {WRITE}=1 this test writes the table of the rows:\n{lines}");
}
