//! `heat`, drawn: a sign, or a field, for each area.

use std::fmt::Write;

use ops::see::{AreaHeat, Heat};
use ops::size::print_size;
use recognise::shown_line;
use sim_core::SECTOR_SIZE;

use super::graph::escaped;
use super::locale_has_utf8;
use super::picture::{ASCII, BLOCKS, sign};

/// What one way of an area is: how many sectors, and in how many bios.
type Way = (&'static str, fn(&AreaHeat) -> (u64, u64));

const WAYS: [Way; 2] = [
    ("read", |area| (area.read, area.read_count)),
    ("write", |area| (area.written, area.write_count)),
];

/// Draws what was read and written where as two lines of signs.
pub(crate) fn heat(heat: &Heat) -> String {
    let signs = if locale_has_utf8() { BLOCKS } else { ASCII };
    let mut text = head(heat) + "\n";
    for (name, way) in WAYS {
        let most = most(heat, way);
        let line: String =
            heat.areas.iter().map(|area| sign(way(area).0, most.max(1), signs)).collect();
        writeln!(text, "{name:<5}  {line}  {}", sum(heat, way))
            .expect("a string takes what is written");
    }
    text
}

/// Draws it as SVG: the more an area was sent, the darker its field.
pub(crate) fn heat_svg(heat: &Heat) -> String {
    const WIDTH: usize = 800;
    let count = heat.areas.len().max(1);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"150\" viewBox=\"0 0 {0} 150\" \
         font-family=\"monospace\" font-size=\"12\">\n<rect width=\"{0}\" height=\"150\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"20\">{1}</text>\n",
        WIDTH + 16,
        escaped(&head(heat))
    );
    for ((name, way), (y, colour)) in WAYS.into_iter().zip([(52, "#0969da"), (112, "#cf222e")]) {
        let most = most(heat, way).max(1);
        let words = format!("{name}: {}", sum(heat, way));
        writeln!(text, "<text x=\"8\" y=\"{}\">{words}</text>", y - 6).expect("a string");
        for (nr, area) in heat.areas.iter().enumerate() {
            let (x, end) = (WIDTH * nr / count + 8, WIDTH * (nr + 1) / count + 8);
            let share = u128::from(way(area).0) * 100 / u128::from(most);
            let (sectors, bios) = way(area);
            let size = print_size(sectors * SECTOR_SIZE);
            writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"28\" fill=\"{colour}\" \
                 fill-opacity=\"{}.{:02}\"><title>sectors {} to {}: {size} in {bios} bios</title></rect>",
                end - x,
                share / 100,
                share % 100,
                area.start,
                area.start + area.len - 1
            )
            .expect("a string takes what is written");
        }
        writeln!(
            text,
            "<rect x=\"8\" y=\"{y}\" width=\"{WIDTH}\" height=\"28\" fill=\"none\" stroke=\"#57606a\"/>"
        )
        .expect("a string takes what is written");
    }
    text + "</svg>\n"
}

fn head(heat: &Heat) -> String {
    let size = heat.areas.first().map_or(0, |area| area.len);
    format!(
        "{} ({}): {}.{} s, {} areas of {}",
        shown_line(&heat.name),
        heat.dev,
        heat.took_ms / 1000,
        heat.took_ms % 1000 / 100,
        heat.areas.len(),
        print_size(size * SECTOR_SIZE)
    )
}

fn most(heat: &Heat, way: fn(&AreaHeat) -> (u64, u64)) -> u64 {
    heat.areas.iter().map(|area| way(area).0).max().unwrap_or(0)
}

fn sum(heat: &Heat, way: fn(&AreaHeat) -> (u64, u64)) -> String {
    let (sectors, bios) =
        heat.areas.iter().map(way).fold((0u64, 0u64), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    format!("{} in {bios} bios", print_size(sectors.saturating_mul(SECTOR_SIZE)))
}
