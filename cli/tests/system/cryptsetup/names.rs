//! Names that the kernel would not take as they are: recorded from the real program.

use std::fs::File;

use super::{CHEAP, empty};
use crate::harness::{Instance, has, sh, text};

/// What is typed, the device's name in the kernel, and what its uuid has after `CRYPT-PLAIN-` and after
/// `CRYPT-LUKS2-12345678123412341234123456789abc-`, or nothing where the open fails. `{83}` stands for 83
/// letters. From Linux 6.12 with cryptsetup 2.6.1.
type Row = (&'static str, &'static str, Option<&'static str>, Option<&'static str>);

const ROWS: &[Row] = &[
    ("{83}", "{83}", Some("{83}"), Some("{83}")),
    ("{84}", "{84}", Some("{84}"), Some("{83}")),
    ("{100}", "{100}", Some("{100}"), Some("{83}")),
    ("{116}", "{116}", Some("{116}"), Some("{83}")),
    ("{117}", "{117}", Some("{116}"), Some("{83}")),
    ("{127}", "{127}", Some("{116}"), Some("{83}")),
    ("{128}", "", None, None),
    ("a b", "a\\x20b", Some("a\\x20b"), Some("a\\x20b")),
    ("a;b", "a\\x3bb", Some("a\\x3bb"), Some("a\\x3bb")),
    ("ä", "\\xc3\\xa4", Some("\\xc3\\xa4"), Some("\\xc3\\xa4")),
    (
        "кириллица",
        "\\xd0\\xba\\xd0\\xb8\\xd1\\x80\\xd0\\xb8\\xd0\\xbb\\xd0\\xbb\\xd0\\xb8\\xd1\\x86\\xd0\\xb0",
        Some(
            "\\xd0\\xba\\xd0\\xb8\\xd1\\x80\\xd0\\xb8\\xd0\\xbb\\xd0\\xbb\\xd0\\xb8\\xd1\\x86\\xd0\\xb0",
        ),
        Some(
            "\\xd0\\xba\\xd0\\xb8\\xd1\\x80\\xd0\\xb8\\xd0\\xbb\\xd0\\xbb\\xd0\\xb8\\xd1\\x86\\xd0\\xb0",
        ),
    ),
    ("a\\x20b", "a\\x20b", Some("a\\x20b"), Some("a\\x20b")),
    ("a\\x20 b", "", None, None),
    ("a\\", "a\\x5c", Some("a\\x5c"), Some("a\\x5c")),
    ("a/b", "", None, None),
    (".", "", None, None),
    ("..", "", None, None),
    ("control", "", None, None),
    ("a*b\"$c", "a\\x2ab\\x22\\x24c", Some("a\\x2ab\\x22\\x24c"), Some("a\\x2ab\\x22\\x24c")),
    ("a\tb", "a\\x09b", Some("a\\x09b"), Some("a\\x09b")),
    ("a\nb", "a\\x0ab", Some("a\\x0ab"), Some("a\\x0ab")),
    ("a'b", "a\\x27b", Some("a\\x27b"), Some("a\\x27b")),
    ("~", "\\x7e", Some("\\x7e"), Some("\\x7e")),
    ("a,b|c&d", "a\\x2cb\\x7cc\\x26d", Some("a\\x2cb\\x7cc\\x26d"), Some("a\\x2cb\\x7cc\\x26d")),
    (
        "{20}          {20}",
        "{20}\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20{20}",
        Some("{20}\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20{20}"),
        Some("{20}\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20{20}"),
    ),
    ("                              ", "", None, None),
    (
        "                      ",
        "\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20",
        Some(
            "\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20\\x20",
        ),
        None,
    ),
    ("ä{79}", "\\xc3\\xa4{79}", Some("\\xc3\\xa4{79}"), None),
    ("{80}ä", "{80}\\xc3\\xa4", Some("{80}\\xc3\\xa4"), None),
    ("{90}ä", "{90}\\xc3\\xa4", Some("{90}\\xc3\\xa4"), Some("{83}")),
    ("{114}ä", "{114}\\xc3\\xa4", None, Some("{83}")),
    ("{81}\\x20{5}", "{81}\\x20{5}", Some("{81}\\x20{5}"), None),
    ("{79}\\x20{5}", "{79}\\x20{5}", Some("{79}\\x20{5}"), Some("{79}\\x20")),
    ("{81}ä", "{81}\\xc3\\xa4", Some("{81}\\xc3\\xa4"), None),
    ("{82}ä", "{82}\\xc3\\xa4", Some("{82}\\xc3\\xa4"), None),
    ("{83}ä", "{83}\\xc3\\xa4", Some("{83}\\xc3\\xa4"), Some("{83}")),
    ("x\\5cx20", "x\\x5c5cx20", Some("x\\x5c5cx20"), Some("x\\x5c5cx20")),
    ("a\\x5cx20b", "", None, None),
];

/// Writes the letters out.
fn spread(text: &str) -> String {
    let mut parts = text.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |whole, part| {
        let (count, rest) = part.split_once('}').expect("a count");
        whole + &"n".repeat(count.parse().expect("a number")) + rest
    })
}

fn check(instance: &Instance, typed: &str, open: &[&str], expected: Option<(&str, String)>) {
    let output = instance.run(&[open, &[typed]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    let Some((name, uuid)) = expected else {
        assert_eq!(output.status.code(), Some(2), "{typed}: {errors}");
        assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found", "{typed}");
        return;
    };
    assert!(output.status.success(), "{typed}: {errors}");
    let whole_uuid = uuid.len() < 128 || !errors.contains("is too long, and cut to 128 bytes");
    assert!(whole_uuid || name.len() > 83, "{typed}: {errors}");
    let file = String::from_utf8(output.stdout).expect("text");
    assert_eq!(file.trim_end(), text(&instance.device(name)), "{typed}");
    let columns = ["info", "-c", "--noheadings", "--manglename", "none", "-o", "name,uuid"];
    assert_eq!(instance.dmsim(&columns).trim_end(), format!("{name}:{uuid}"), "{typed}");
    let bytes = File::open(instance.device(name)).and_then(|file| file.metadata());
    assert!(bytes.expect("a device").len() > 0, "{typed}");
    instance.dmsim(&["close", typed]);
    assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found", "{typed}");
}

#[test]
fn devices_are_named_as_cryptsetup_and_libdevmapper_name_them() {
    let instance = Instance::start();
    let plain = empty(&instance, "plain", 1 << 20);
    std::fs::write(instance.path("key"), [7; 32]).expect("room for it");
    let open_plain = ["open", "-q", "--type", "plain", "-d", "key", text(&plain)];
    let luks = has(&["cryptsetup"]).then(|| {
        let image = empty(&instance, "luks", 32 << 20);
        let key = instance.path("key");
        let uuid = ["--uuid", "12345678-1234-1234-1234-123456789abc"];
        let format = [&["-q", "luksFormat", "--type", "luks2"], CHEAP, &uuid];
        sh("cryptsetup", &[&format.concat()[..], &[text(&image), text(&key)]].concat());
        image
    });
    for (typed, name, in_plain, in_luks) in ROWS {
        let (typed, name) = (spread(typed), spread(name));
        let expected = |kind: &str, uuid: &Option<&str>| {
            uuid.map(|uuid| (&*name, format!("{kind}{}", spread(uuid))))
        };
        check(&instance, &typed, &open_plain, expected("CRYPT-PLAIN-", in_plain));
        if let Some(image) = &luks {
            let open = ["open", "-d", "key", text(image)];
            let expected = expected("CRYPT-LUKS2-12345678123412341234123456789abc-", in_luks);
            check(&instance, &typed, &open, expected);
        }
    }
}

#[test]
fn a_device_with_a_blank_in_its_name_is_used_as_any_other() {
    let instance = Instance::start();
    let image = empty(&instance, "image", 8 << 20);
    std::fs::write(instance.path("key"), [7; 32]).expect("room for it");
    let open = ["open", "-q", "--type", "plain", "-d", "key", text(&image), "my disk"];
    instance.dmsim(&open);
    assert!(instance.refused(&open).contains("a device `my disk` is there already"));
    // Stacked by its name, and by the path of its file.
    let file = instance.device(r"my\x20disk");
    let inner = ["open", "-q", "--type", "plain", "-d", "key", text(&file), "inner one"];
    instance.dmsim(&inner);
    let busy = instance.refused(&["close", "my disk"]);
    assert!(busy.contains(r"my\x20disk"), "{busy}");
    instance.dmsim(&["close", "inner one"]);
    instance.dmsim(&["snapshot", "my disk", "a copy", "--size", "1M"]);
    instance.dmsim(&["diff", "a copy"]);
    instance.dmsim(&["merge", "a copy"]);
    instance.dmsim(&["snapshot", "my disk", "a copy", "--size", "1M"]);
    instance.dmsim(&["drop", "a copy"]);
    assert_eq!(instance.dmsim(&["ls"]).trim_end(), "my disk\t(253:0)");
    instance.dmsim(&["close", text(&file)]);
}

#[test]
fn a_uuid_that_is_taken_is_told_of() {
    let instance = Instance::start();
    let (one, two) = (empty(&instance, "one", 1 << 20), empty(&instance, "two", 1 << 20));
    std::fs::write(instance.path("key"), [7; 32]).expect("room for it");
    let name = "n".repeat(116);
    let open = |image: &str, name: &str| {
        instance.run(&["open", "-q", "--type", "plain", "-d", "key", image, name])
    };
    assert!(open(text(&one), &name).status.success());
    // Cut, the second uuid is the first.
    let output = open(text(&two), &format!("{name}x"));
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("of the uuid `CRYPT-PLAIN-{name}`")), "{told}");
}
