//! `where`, drawn.

use std::fmt::Write;

use ops::see::{Place, PlaceKind};
use recognise::shown_line;

use super::Branches;

/// Draws where a sector lies, or what lies there.
pub(crate) fn places(place: &Place, branches: Branches) -> String {
    let mut text = String::new();
    draw(place, "", "", branches, &mut text);
    text
}

fn draw(place: &Place, first: &str, rest: &str, branches: Branches, text: &mut String) {
    let role = place.role.as_ref().map(|role| format!("{role}: ")).unwrap_or_default();
    let what = match &place.kind {
        PlaceKind::Device { target_type } => target_type.clone(),
        PlaceKind::Image { file, offset_bytes } => format!("{file}, byte {offset_bytes}"),
    };
    let notes: String = place.notes.iter().map(|note| format!("; {note}")).collect();
    let (name, what) = (shown_line(&place.name), shown_line(&what));
    let (dev, sector) = (place.dev, place.sector);
    writeln!(text, "{first}{role}{name} ({dev}) sector {sector}: {what}{}", shown_line(&notes))
        .expect("a string takes what is written");
    let next: Vec<&Place> = place.below.iter().chain(&place.above).collect();
    for (index, place) in next.iter().enumerate() {
        let (fork, line) = branches.at(index + 1 == next.len());
        draw(place, &format!("{rest}{fork}"), &format!("{rest}{line}"), branches, text);
    }
}
