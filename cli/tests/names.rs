//! Whatever is accepted as a name, a uuid or a concise text can be listed and removed again.

use std::sync::Arc;

use backing::{Images, Pool, block_on};
use dmsim_cli::dmsetup::{Called, Dm, Streams, run};
use proptest::prelude::*;
use sim_core::control::{Answer, Backing, Command, Failure};
use sim_core::{Control, DevNumber, NoLog};

/// A control plane without any images.
struct InProcess(Arc<Control>);

impl Dm for InProcess {
    fn call(&mut self, command: Command) -> Result<Answer, Failure> {
        block_on(self.0.execute(command))
    }

    fn device_name(&mut self, _dev: DevNumber) -> Option<String> {
        None
    }

    fn base(&self) -> String {
        "/".to_owned()
    }
}

impl InProcess {
    fn new() -> InProcess {
        let images: Arc<dyn Backing> = Images::new();
        InProcess(Control::new(targets::registry(), images, Pool::new(1), Arc::new(NoLog)))
    }

    /// Runs a command line; returns its status, and all that it printed.
    fn run(&mut self, called: Called, words: &[&str]) -> (i32, String) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams =
            Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut err };
        let status = run(called, &words, self, &mut streams);
        out.extend(err);
        (status, String::from_utf8_lossy(&out).into_owned())
    }

    fn works(&mut self, called: Called, words: &[&str]) {
        let (status, text) = self.run(called, words);
        assert_eq!(status, 0, "{words:?}: {text}");
    }

    /// Lists all there is in each way, and removes it by what the lists call it.
    fn is_listed_and_goes(&mut self, called: Called) {
        for words in [
            &["ls"][..],
            &["info"],
            &["info", "-c"],
            &["info", "-c", "--noheadings", "-o", "mangled_name,unmangled_name,uuid"],
            &["table"],
            &["table", "--concise"],
            &["status"],
            &["deps"],
            &["ls", "--tree"],
        ] {
            self.works(called, words);
        }
        let (_, names) = self.run(called, &["info", "-c", "--noheadings", "-o", "mangled_name"]);
        for name in names.lines().filter(|line| !line.starts_with("No devices")) {
            self.works(called, &["remove", "--", name.trim_end()]);
        }
        let (status, left) = self.run(called, &["ls"]);
        assert_eq!((status, left.as_str()), (0, "No devices found\n"));
    }
}

fn called() -> impl Strategy<Value = Called> {
    prop_oneof![Just(Called::Dmsetup), Just(Called::Dmsim)]
}

/// Tells whether a text has a byte in hexadecimal digits that mangling would not write so: one that
/// needs none, or in capital letters. The real programs take such a name, and cannot report on it.
fn says_bytes_in_other_digits(text: &str) -> bool {
    let mut pieces = text.split("\\x").skip(1).filter_map(|rest| rest.get(..2));
    pieces.any(|digits| match u8::from_str_radix(digits, 16) {
        Ok(byte) => {
            byte.is_ascii_alphanumeric()
                || b"#+-.:=@_".contains(&byte)
                || !byte.is_ascii()
                || digits.contains(|digit: char| digit.is_ascii_uppercase())
        }
        Err(_) => false,
    })
}

/// Texts that meet what mangling, paths and concise forms are about.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9]{1,4}",
        4 => r"\\x(5c|20|2|)(x20|x|)",
        2 => r"[\\ ,;/\t#+:=@_.-]{1,2}",
        1 => "\\PC{1,3}",
        1 => "[a-z]{30,70}",
    ];
    let text = proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat());
    text.prop_filter("odd digits", |text| !says_bytes_in_other_digits(text))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_name_that_is_taken_is_listed_and_goes(
        called in called(), name in text(), uuid in proptest::option::of(text()),
    ) {
        let mut dm = InProcess::new();
        let mut words = vec!["create", "--notable"];
        words.extend(uuid.iter().flat_map(|uuid| ["-u", uuid]));
        words.extend(["--", &name]);
        let (created, _) = dm.run(called, &words);
        prop_assert_eq!(created == 0, !dm.0.records().is_empty());
        dm.is_listed_and_goes(called);
    }

    #[test]
    fn a_device_that_was_renamed_is_listed_and_goes(
        called in called(), name in text(), uuid in any::<bool>(),
    ) {
        let mut dm = InProcess::new();
        dm.works(called, &["create", "x", "--table", "0 8 zero"]);
        let setuuid: &[&str] = if uuid { &["--setuuid"] } else { &[] };
        let words = [&["rename"][..], setuuid, &["--", "x", &name]].concat();
        let (_renamed_or_not, _) = dm.run(called, &words);
        dm.is_listed_and_goes(called);
    }

    #[test]
    fn what_a_concise_text_makes_is_listed_and_goes(
        called in called(),
        fields in proptest::collection::vec(text(), 0..3),
        rest in prop_oneof![Just(",,,,0 8 zero"), Just(",,,,0 8 zero,"), Just(",,,,"), Just("\\"), Just(";")],
        end in prop_oneof![Just(""), Just(","), Just(";"), Just("\\"), Just("\n"), Just("\\;")],
    ) {
        let mut dm = InProcess::new();
        let text = format!("{}{rest}{end}", fields.join(","));
        let (_made_or_not, _) = dm.run(called, &["create", "--concise", "--", &text]);
        dm.is_listed_and_goes(called);
    }
}
