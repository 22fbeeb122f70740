//! What workflows have found, as people read it.

mod check;
mod diff;
mod faults;
mod graph;
mod heat;
mod images;
mod info;
mod opened;
mod picture;
mod places;
mod raid;
mod store;
mod trace;
mod tree;

use std::process::ExitCode;

use daemon::{About, Fault};

use crate::output::print_as_it_is;

pub(crate) use check::check;
pub(crate) use diff::diff;
pub(crate) use faults::{armed, faults, faults_json};
pub(crate) use graph::{Graph, dot, svg};
pub(crate) use heat::{heat, heat_svg};
pub(crate) use images::{images, images_json};
pub(crate) use info::info_json;
pub(crate) use opened::{opened, planned};
pub(crate) use places::places;
pub(crate) use raid::{checked, grown, raid, repairs};
pub(crate) use store::{write_json, write_text};
pub(crate) use trace::{TraceSum, trace_json, trace_line};
pub(crate) use tree::{Branches, tree};

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Fault> {
    let text = serde_json::to_string_pretty(value).about("json")?;
    print_as_it_is(&format!("{text}\n"))
}

/// Tells whether the locale has more than ASCII.
fn locale_has_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
