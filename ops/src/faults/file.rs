//! A plan of faults as a TOML file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use daemon::{About, Fault};
use serde::Deserialize;
use sim_core::{FaultOp, FaultPlan, FaultRule, MAX_FAULT_RULES};
use toml::Spanned;

/// The longest file that is read, in bytes.
pub const MAX_PLAN_FILE: u64 = 1 << 20;

/// What the file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    seed: Option<u64>,
    #[serde(default, rename = "rule")]
    rules: Vec<Spanned<FaultRule>>,
}

/// Of what the file says, which rules name no kind of I/O, where others leave out to name any.
#[derive(Deserialize)]
struct Named {
    #[serde(default, rename = "rule")]
    rules: Vec<On>,
}

#[derive(Deserialize)]
struct On {
    on: Option<Spanned<Vec<FaultOp>>>,
}

/// Reads a plan from a file.
///
/// # Errors
/// Where it cannot be read, or is no plan; says the line.
pub fn read(path: &Path) -> Result<FaultPlan, Fault> {
    let mut text = String::new();
    let file = File::open(path).about(path.display())?;
    file.take(MAX_PLAN_FILE + 1).read_to_string(&mut text).about(path.display())?;
    if text.len() as u64 > MAX_PLAN_FILE {
        let why = format!(
            "expected {MAX_FAULT_RULES} rules at most, found a file of more than {MAX_PLAN_FILE} bytes"
        );
        return Err(Fault::new(path.display(), why));
    }
    parse(&text).about(path.display())
}

/// Reads a plan.
///
/// # Errors
/// Says what is wrong, and in which line.
pub fn parse(text: &str) -> Result<FaultPlan, String> {
    let at_line = |at: usize, why: &str| {
        let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: {why}")
    };
    let read: Text = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => at_line(span.start, error.message()),
        None => error.message().to_owned(),
    })?;
    let named: Named = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let none_named =
        |rule: &On| Some(rule.on.as_ref().filter(|on| on.get_ref().is_empty())?.span().start);
    if let Some(at) = named.rules.iter().find_map(none_named) {
        return Err(at_line(at, "on: expected a kind of I/O, or no `on` at all for every kind"));
    }
    let begin = |rule: usize| read.rules.get(rule - 1).map_or(0, |rule| rule.span().start);
    let rules = read.rules.iter().map(|rule| rule.get_ref().clone()).collect();
    let plan = FaultPlan { seed: read.seed, rules };
    match plan.check() {
        Ok(()) => Ok(plan),
        Err(error) => match error.rule {
            Some(rule) => Err(at_line(begin(rule), &error.to_string())),
            None => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_wrong_names_the_line_and_the_field() {
        for (text, why) in [
            ("", "expected a rule, found none"),
            ("seed = 7", "expected a rule, found none"),
            ("[[rule]]\n", "line 1: missing field `kind`"),
            (
                "\n[[rule]]\nkind = \"eror\"",
                "line 3: unknown variant `eror`, expected one of `error`",
            ),
            ("[[rule]]\nkind = \"error\"\nrat = 1", "line 3: unknown field `rat`, expected one of"),
            ("[[rule]]\nkind = \"error\"\nrate = 1.5", "line 3: expected a rate above 0"),
            ("[[rule]]\nkind = \"error\"\nfrom_s = -1", "line 3: expected seconds, 0 to"),
            ("[[rule]]\nkind = \"error\"\nnth = -1", "line 3: invalid value: integer `-1`"),
            ("[[rule]]\nkind = \"error\"\non = [\"read\"]", "line 3: unknown variant `read`"),
            (
                "[[rule]]\nkind = \"error\"\non = []",
                "line 3: on: expected a kind of I/O, or no `on`",
            ),
            ("seed = 1\n[[rules]]", "line 2: unknown field `rules`"),
            (
                "[[rule]]\nkind = \"error\"\n\n[[rule]]\nkind = \"slow\"",
                "line 4: rule 2: delay_ms: expected",
            ),
            (
                "[[rule]]\nkind = \"error\"\nnth = 0",
                "line 1: rule 1: nth: expected 1 or more, found 0",
            ),
            ("[[rule]\n", "line 1: "),
        ] {
            let found = parse(text).expect_err(text);
            assert!(found.starts_with(why), "{text:?}: {found}, not {why}");
        }
        let many = "[[rule]]\nkind = \"error\"\n".repeat(MAX_FAULT_RULES + 1);
        assert_eq!(
            parse(&many).expect_err("one too many"),
            "expected 1024 rules at most, found 1025"
        );
        let one_less = many.len() - many.len() / (MAX_FAULT_RULES + 1);
        assert_eq!(
            parse(&many[..one_less]).expect("as many as can be").rules.len(),
            MAX_FAULT_RULES
        );
    }

    #[test]
    fn a_file_of_a_million_rules_is_not_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plan.toml");
        std::fs::write(&path, "[[rule]]\nkind = \"error\"\n".repeat(1_000_000)).expect("room");
        let told = read(&path).expect_err("too long").to_string();
        assert!(told.ends_with("found a file of more than 1048576 bytes"), "{told}");
    }
}
