//! What `open` has found on images, as text.

use std::fmt::Write;

use ops::open::stack::{Device, Opened};
use ops::size::print_size;

/// Lists what there is for people: each with its file, what it holds, its size and its label.
pub(crate) fn opened(opened: &Opened) -> String {
    let for_people = |device: &&Device| !device.is_part && !device.has_layers_above;
    let shown: Vec<&Device> = opened.devices.iter().filter(for_people).collect();
    let holds = |device: &Device| device.holds.clone().unwrap_or_else(|| "-".to_owned());
    let size = |device: &Device| print_size(device.size_bytes);
    let widest = |text: &dyn Fn(&Device) -> String| {
        shown.iter().map(|device| text(device).chars().count()).max().unwrap_or(0)
    };
    let path = |device: &Device| device.path.display().to_string();
    let (paths, kinds, sizes) = (widest(&path), widest(&holds), widest(&size));
    let mut text = String::new();
    for device in &shown {
        let mut line =
            format!("{:paths$}  {:kinds$}  {:>sizes$}", path(device), holds(device), size(device));
        if device.read_only {
            line += "  read-only";
        }
        if let Some(label) = &device.label {
            let _ = write!(line, "  {}", label.escape_debug());
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Lists the tables that would be loaded, as `dmsetup table` does.
pub(crate) fn planned(opened: &Opened) -> String {
    let lines = opened.devices.iter().flat_map(|device| {
        device.lines.iter().map(move |line| format!("{}: {line}\n", device.name))
    });
    lines.collect()
}
