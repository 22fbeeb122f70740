//! A stack as a file: saved, made anew, compared, and what is done when something is in the way.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Instance, can_mount};

/// Makes a stack of all that a file has a word for: an image with a name and one without, crypt, a mirror, an origin
/// and its snapshot, a device on a device whose name is no word, a table that waits, a suspended device, a
/// read-only one, and one without a table.
fn build(instance: &Instance) {
    instance.ok(&["attach", "a.img", "--create", "4M", "--as", "/dev/sda"]);
    instance.ok(&["attach", "b.img", "--create", "4M"]);
    fs::File::create(instance.root().join("cow.img")).unwrap().set_len(1 << 20).unwrap();
    let key = "07".repeat(32);
    for (name, table) in [
        ("my disk", "0 2048 linear /dev/sda 0".to_owned()),
        ("c", format!("0 1024 crypt aes-xts-plain64 {key} 0 /dev/sda 2048 1 allow_discards")),
        ("m", "0 1024 mirror core 2 64 nosync 2 b.img 0 b.img 1024 1 handle_errors".to_owned()),
        ("base", "0 512 linear b.img 4096".to_owned()),
        ("origin", "0 512 snapshot-origin base".to_owned()),
        ("snap", "0 512 snapshot base cow.img P 8".to_owned()),
        ("a top", r"0 64 linear /dev/mapper/my\\x20disk 0".to_owned()),
    ] {
        instance.ok(&["create", name, "-u", &format!("uuid of {name}"), "--table", &table]);
    }
    instance.ok(&["load", "base", "--table", "0 256 zero"]);
    instance.ok(&["create", "none", "--notable"]);
    instance.ok(&["create", "ro", "-r", "--table", "0 64 linear /dev/sda 4096"]);
    instance.ok(&["suspend", "ro"]);
}

/// Writes a file of an instance's folder.
fn write(instance: &Instance, name: &str, text: &str) -> PathBuf {
    let path = instance.root().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Makes an instance whose folder has the images and the file of another one, which is stopped.
fn moved(instance: &Instance) -> Instance {
    instance.ok(&["stop", "--force"]);
    let new = Instance::new();
    for file in ["a.img", "b.img", "cow.img", "stack.toml"] {
        fs::copy(instance.root().join(file), new.root().join(file)).unwrap();
    }
    fs::write(new.root().join("key"), [7; 32]).unwrap();
    new
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn a_saved_stack_is_made_anew_in_another_folder() {
    if !can_mount() {
        return;
    }
    let first = Instance::new();
    build(&first);
    fs::write(first.path("mapper/c"), [5; 4096]).unwrap();
    fs::write(first.path("mapper/snap"), [9; 4096]).unwrap();
    first.ok(&["stack", "save", "stack.toml"]);
    let text = fs::read_to_string(first.root().join("stack.toml")).unwrap();
    assert!(!text.contains("0707") && text.contains("aes-xts-plain64 ?32 0 /dev/sda"), "{text}");
    assert!(text.contains("name = \"my disk\"") && !text.contains("x20"), "{text}");
    assert!(!text.contains(first.root().to_str().unwrap()), "{text}");
    assert_eq!(first.ok(&["stack", "diff", "stack.toml"]), "");
    let refused = first.fails(&["stack", "save", "stack.toml"]);
    assert!(refused.contains("is there already: --force"), "{refused}");

    let second = moved(&first);
    // No key: nothing is left of what was made before it was missed.
    let refused = second.fails(&["stack", "load", "stack.toml"]);
    assert!(refused.contains("c: line ") && refused.contains("--key-file NAME=FILE"), "{refused}");
    assert!(refused.contains("undone"), "{refused}");
    assert_eq!(second.ok(&["ls"]), "No devices found\n");
    assert_eq!(second.json(&["images", "--json"]), serde_json::json!([]));
    let load = ["stack", "load", "stack.toml", "--key-file", "c=key"];
    let made = second.ok(&load);
    assert_eq!(lines(&made).len(), 2 + 9, "{made}");
    assert_eq!(second.ok(&["stack", "diff", "stack.toml"]), "");
    assert_eq!(second.json(&["stack", "diff", "stack.toml", "--json"]), serde_json::json!([]));
    assert_eq!(fs::read(second.path("mapper/c")).unwrap()[..4096], [5; 4096]);
    assert_eq!(fs::read(second.path("mapper/snap")).unwrap()[..4096], [9; 4096]);
    assert_eq!(fs::read(second.path("mapper/origin")).unwrap()[..4096], [0; 4096]);
    let ro = second.json(&["info", "--json", "ro"]);
    assert_eq!((&ro[0]["suspended"], &ro[0]["read_only"]), (&true.into(), &true.into()));
    let info = second.json(&["info", "--json", r"a\x20top"]);
    assert_eq!(info[0]["uuid"], "uuid of a top");
    let waits = second.ok(&["table", "--inactive", "base"]);
    assert_eq!(waits.trim(), "0 256 zero");

    let events = second.ok(&["events", "--past", "--timeout", "0.5"]);
    let again = second.run(&load);
    assert!(again.status.success() && again.stdout.is_empty(), "{again:?}");
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(told.contains("nothing is to be done: all is as stack.toml says"), "{told}");
    assert_eq!(second.ok(&["events", "--past", "--timeout", "0.5"]), events);
    // What is saved there is the same file.
    assert_eq!(second.ok(&["stack", "save", "-"]), text);
    second.ok(&["stack", "save", "keys.toml", "--showkeys", "--minors"]);
    let with_keys = fs::read_to_string(second.root().join("keys.toml")).unwrap();
    assert!(with_keys.contains(&"07".repeat(32)) && with_keys.contains("minor = 0"), "{with_keys}");
    assert_eq!(second.ok(&["stack", "diff", "keys.toml"]), "");
    let other = with_keys.replace(&"07".repeat(32), &"08".repeat(32));
    write(&second, "keys.toml", &other);
    let differs = second.run(&["stack", "diff", "keys.toml"]);
    let differs = String::from_utf8([differs.stdout, differs.stderr].concat()).unwrap();
    assert!(differs.starts_with("reload device c\n") && !differs.contains("0808"), "{differs}");
    assert!(!differs.contains("0707"), "{differs}");
}

#[test]
fn a_device_that_is_there_otherwise_is_refused_or_reloaded() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    let stack = |len: u32, more: &str| {
        let text = format!(
            "[[image]]\nfile = \"new.img\"\ncreate = \"1M\"\nname = \"/dev/sda\"\n\
             [[device]]\nname = \"a\"\n{more}table = \"0 {len} linear /dev/sda 0\"\n"
        );
        write(&instance, "s.toml", &text);
    };
    stack(64, "");
    assert_eq!(instance.ok(&["stack", "load", "s.toml"]), "made /dev/sda\nmade a\n");
    fs::write(instance.path("mapper/a"), [3; 512]).unwrap();
    stack(128, "");
    let refused = instance.fails(&["stack", "load", "s.toml"]);
    let expected = "dmsim: a: line 5: is there otherwise: table line 1: the file has `0 128 linear /dev/sda 0`, there is \
                    `0 64 linear /dev/sda 0`; nothing was changed: `--reload` changes it where it is\n";
    assert_eq!(refused, expected);
    assert_eq!(instance.ok(&["table", "a"]), "0 64 linear 8:0 0\n");
    let output = instance.run(&["stack", "diff", "s.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "reload device a\n  table line 1\n  - 0 64 linear /dev/sda 0\n  + 0 128 linear /dev/sda 0\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!(instance.ok(&["stack", "load", "s.toml", "--reload"]), "changed a\n");
    assert_eq!(instance.ok(&["table", "a"]), "0 128 linear 8:0 0\n");
    assert_eq!(fs::read(instance.path("mapper/a")).unwrap()[..512], [3; 512]);

    // A uuid is set once; a minor number never changes; what is suspended is resumed if that is asked for.
    stack(128, "uuid = \"one\"\n");
    instance.ok(&["stack", "load", "s.toml", "--reload"]);
    assert_eq!(instance.json(&["info", "--json", "a"])[0]["uuid"], "one");
    for more in ["uuid = \"two\"\n", "minor = 7\n"] {
        stack(128, more);
        let refused = instance.fails(&["stack", "load", "s.toml", "--reload"]);
        assert!(refused.contains("cannot be changed where it is: `dmsim remove a`"), "{refused}");
    }
    stack(128, "");
    instance.ok(&["suspend", "a"]);
    instance.ok(&["load", "a", "--table", "0 8 zero"]);
    let refused = instance.fails(&["stack", "load", "s.toml"]);
    assert!(
        refused.contains("inactive line 1: the file has none, there is `0 8 zero"),
        "{refused}"
    );
    instance.ok(&["stack", "load", "s.toml", "--reload"]);
    assert_eq!(instance.ok(&["table", "a"]), "0 128 linear 8:0 0\n");
    assert_eq!(instance.json(&["info", "--json", "a"])[0]["suspended"], false);
    assert_eq!(instance.ok(&["stack", "diff", "s.toml"]), "");
    // Words that the target prints otherwise, or leaves out, are the same all the same.
    let dmsetup =
        "[[device]]\nname = \"a\"\ntable = '''\n# a comment\n0   128 linear   8:0 0\n'''\n";
    write(&instance, "s.toml", dmsetup);
    assert_eq!(instance.ok(&["stack", "diff", "s.toml"]), "");
}

#[test]
fn what_fails_in_the_middle_is_undone() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    instance.ok(&["attach", "old.img", "--create", "1M", "--as", "/dev/sdb"]);
    instance.ok(&["create", "old", "--table", "0 64 linear /dev/sdb 0"]);
    instance.ok(&["load", "old", "--table", "0 32 zero"]);
    fs::write(instance.path("mapper/old"), [3; 512]).unwrap();
    let text = "[[image]]\nfile = \"new.img\"\ncreate = \"1M\"\nname = \"/dev/sda\"\n\
                [[device]]\nname = \"top\"\ntable = '''\n0 8 zero\n8 8 linear /dev/mapper/below 0 0\n'''\n\
                [[device]]\nname = \"below\"\ntable = \"0 64 linear /dev/sda 0\"\n\
                [[device]]\nname = \"old\"\ntable = \"0 128 linear /dev/sdb 0\"\n";
    // In the order of dependencies `old` is the last, so it comes first in the file.
    let (head, old) = text.split_at(text.find("[[device]]\nname = \"old\"").unwrap());
    let (image, rest) = head.split_at(head.find("[[device]]").unwrap());
    write(&instance, "s.toml", &format!("{image}{old}{rest}"));
    let refused = instance.fails(&["stack", "load", "s.toml", "--reload"]);
    assert!(refused.starts_with("dmsim: top: line 12: linear: argument 3: "), "{refused}");
    assert!(refused.trim_end().ends_with("undone: all is as it was"), "{refused}");
    assert_eq!(instance.ok(&["ls"]), "old\t(253:0)\n");
    assert_eq!(instance.ok(&["table", "old"]), "0 64 linear 8:16 0\n");
    assert_eq!(instance.ok(&["table", "--inactive", "old"]).trim(), "0 32 zero");
    assert_eq!(fs::read(instance.path("mapper/old")).unwrap()[..512], [3; 512]);
    assert!(!instance.root().join("new.img").exists());
    assert_eq!(instance.json(&["images", "--json"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_file_that_is_wrong_names_the_line() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    for (text, why) in [
        ("[[device]]\nname = \"a\"\ntabel = \"0 8 zero\"", "line 3: unknown field `tabel`"),
        ("[[device]]\n", "line 1: missing field `name`"),
        ("[[device]]\nname = \"a/b\"", "line 2: name: expected no `/`, found `a/b`"),
        ("[[device]]\nname = \"\"", "line 2: name: expected a name"),
        (
            "[[device]]\nname = \"a\"\ntable = '''\n0 8 zero\n8 linear\n'''",
            "line 5: expected `start length",
        ),
        ("[[device]]\nname = \"a\"\ntable = \"\"", "line 3: expected a table line, found none"),
        (
            "[[device]]\nname = \"a\"\n\n[[device]]\nname = \"a\"",
            "line 4: name: `a` is there twice, as in line 1",
        ),
        (
            "[[image]]\nfile = \"x\"\nsector_size = 7",
            "line 3: sector_size: expected 512 or 4096, found 7",
        ),
        ("[[image]]\nfile = \"x\"\ncreate = \"7X\"", "line 3: create: expected a number with K"),
        ("[[device]]\nname = \"a\"\nminor = 1048576", "line 1: minor: expected less than 1048576"),
        ("[[device]]\nname = \"a\"\nsuspended = true", "line 1: suspended: expected a table"),
        (
            "[[device]]\nname = \"a\"\ntable = \"0 8 linear b 0\"\n[[device]]\nname = \"b\"\ntable = \"0 8 linear \
             /dev/mapper/a 0\"",
            "line 4: `b` and `a` lie on one another in a circle",
        ),
        ("[[device]\n", "line 1: "),
    ] {
        write(&instance, "s.toml", text);
        let refused = instance.fails(&["stack", "load", "s.toml"]);
        assert!(refused.starts_with(&format!("dmsim: s.toml: {why}")), "{text}: {refused}");
    }
    assert!(instance.pid().is_none(), "nothing is started for a file that is wrong");
    let diff = instance.run(&["stack", "diff", "nowhere.toml"]);
    assert_eq!(diff.status.code(), Some(2), "{diff:?}");
}

#[test]
fn a_concise_text_is_saved_and_made() {
    if !can_mount() {
        return;
    }
    let instance = Instance::new();
    fs::File::create(instance.root().join("a.img")).unwrap().set_len(1 << 20).unwrap();
    let text = "top,,,rw,0 8 linear /dev/mapper/my\\\\ disk 0;my disk,my uuid,3,ro,0 64 linear a.img 0,64 8 zero";
    write(&instance, "s.txt", text);
    assert_eq!(instance.ok(&["stack", "load", "--concise", "s.txt"]), "made my disk\nmade top\n");
    assert_eq!(instance.ok(&["table", "my disk"]), "0 64 linear 7:4096 0\n64 8 zero \n");
    assert_eq!(instance.ok(&["stack", "diff", "--concise", "s.txt"]), "");
    instance.ok(&["create", "none", "--notable"]);
    let saved = instance.ok(&["stack", "save", "--concise", "--minors", "-"]);
    write(&instance, "again.txt", &saved);
    assert_eq!(instance.ok(&["stack", "diff", "--concise", "again.txt"]), "");
    instance.ok(&["remove_all"]);
    let made = instance.ok(&["stack", "load", "--concise", "again.txt"]);
    assert_eq!(made, "made my disk\nmade none\nmade top\n");
    assert_eq!(instance.json(&["info", "--json", r"my\x20disk"])[0]["minor"], 3);
}
