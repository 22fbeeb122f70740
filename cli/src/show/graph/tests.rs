//! What a picture looks like, by its numbers.

use daemon::describe::Tables;
use ops::{Node, NodeKind};
use sim_core::{DevNumber, Fails};

use super::layout::{HEIGHT, WIDTH};
use super::{Graph, dot, svg};

fn image(minor: u32, name: &str, file: &str) -> Node {
    let kind = NodeKind::File { file: file.into(), read_only: false, fault: None, lost: None };
    let dev = DevNumber { major: 7, minor };
    Node {
        name: name.into(),
        dev,
        size: 131_072,
        kind,
        fails: None,
        faults: None,
        below: Vec::new(),
    }
}

fn device(minor: u32, name: &str, targets: &[&str], below: Vec<Node>) -> Node {
    let kind = NodeKind::Targets {
        targets: targets.iter().map(|name| (*name).to_owned()).collect(),
        suspended: name == "home",
        tables: Tables { live: true, inactive: false },
    };
    let dev = DevNumber::mapped(minor);
    Node { name: name.into(), dev, size: 65_536, kind, fails: None, faults: None, below }
}

/// A snapshot, its origin, a crypt, a mirror one leg of which is made to fail, long names and odd ones.
fn stack() -> Vec<Node> {
    let legs = || {
        let second = "/srv/images/of a machine with a very long name/second disk.img";
        let failing = Node { fails: Some(Fails::Writes), ..image(4097, "/dev/sdb", second) };
        vec![image(4096, "/dev/sda", "/srv/a.img"), failing]
    };
    let mirror =
        || device(0, "vg-mirrored--volume_with_a_name_that_has_no_end", &["mirror"], legs());
    let crypt = || device(1, "luks", &["crypt"], vec![mirror()]);
    let origin = || device(2, "home-real", &["linear", "linear"], vec![crypt()]);
    let cow = image(4098, "loop4098", "/srv/<home> & \"cow\".img");
    vec![
        device(3, "home", &["snapshot-origin"], vec![origin()]),
        device(4, "home-snap", &["snapshot"], vec![origin(), cow]),
        device(5, "scratch", &["striped"], vec![mirror(), image(4099, "loop4099", "/srv/d.img")]),
        device(6, "alone", &["zero"], Vec::new()),
    ]
}

/// The number of an attribute.
fn number(line: &str, name: &str) -> i64 {
    let (_, rest) =
        line.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("{name}: {line}"));
    rest.split('"')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn boxes_and_their_labels_never_overlap() {
    let text = svg(&Graph::new(&stack()));
    let (width, height) = (number(&text, "width"), number(&text, "height"));
    let boxes: Vec<(i64, i64)> = text
        .lines()
        .filter(|line| line.starts_with("<rect x="))
        .map(|line| (number(line, "x"), number(line, "y")))
        .collect();
    assert_eq!(boxes.len(), 11, "each device and image once");
    for (at, (x, y)) in boxes.iter().enumerate() {
        assert!(*x >= 0 && x + WIDTH <= width && *y >= 0 && y + HEIGHT <= height, "{x} {y}");
        for (other, below) in &boxes[at + 1..] {
            assert!((x - other).abs() >= WIDTH || (y - below).abs() >= HEIGHT, "{boxes:?}");
        }
    }
    // In a monospace font a character is 0.6 of the height wide.
    let mut inside = None;
    for line in text.lines() {
        if line.starts_with("<rect x=") {
            inside = Some((number(line, "x"), number(line, "y")));
        }
        if let (true, Some((x, y))) = (line.starts_with("<text"), inside) {
            let (_, label) = line.split_once('>').expect("a label");
            let label = label.trim_end_matches("</text>").replace("&quot;", "\"");
            let label = label.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            let end = number(line, "x") * 10 + label.chars().count() as i64 * 72;
            assert!(end <= (x + WIDTH) * 10, "{label}");
            assert!(number(line, "y") > y && number(line, "y") < y + HEIGHT, "{label}");
        }
    }
}

#[test]
fn arrows_go_down_and_through_no_box() {
    let text = svg(&Graph::new(&stack()));
    let arrows: Vec<&str> = text.lines().filter(|line| line.starts_with("<path")).collect();
    assert_eq!(arrows.len(), 9);
    assert_eq!(arrows.iter().filter(|line| line.contains("#cf222e")).count(), 1, "one fails");
    let boxes: Vec<(i64, i64)> = text
        .lines()
        .filter(|line| line.starts_with("<rect x="))
        .map(|line| (number(line, "x"), number(line, "y")))
        .collect();
    for arrow in arrows {
        let path = arrow.split('"').nth(1).expect("a path").replace(['M', 'C', 'L'], "");
        let numbers: Vec<i64> =
            path.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        let ys: Vec<i64> = numbers.iter().skip(1).step_by(2).copied().collect();
        assert!(ys.windows(2).all(|pair| pair[0] <= pair[1]), "{arrow}");
        for point in numbers.chunks(2) {
            let in_box = |(x, y): &(i64, i64)| {
                point[0] > *x && point[0] < x + WIDTH && point[1] > *y && point[1] < y + HEIGHT
            };
            assert!(!boxes.iter().any(in_box), "{arrow}");
        }
    }
}

#[test]
fn what_is_too_long_is_cut_and_shown_whole_by_a_pointer() {
    let text = svg(&Graph::new(&stack()));
    assert!(text.contains("<title>vg-mirrored--volume_with_a_name_that_has_no_end\n"), "{text}");
    assert!(text.contains(">vg-mirrored--volume_with_a_name_…</text>"), "{text}");
    assert!(text.contains(">…a very long name/second disk.img</text>"), "{text}");
    assert!(text.contains("/srv/&lt;home&gt; &amp; &quot;cow&quot;.img</text>"), "{text}");
    assert!(!text.contains("<home>"));
}

#[test]
fn dot_names_each_device_once_and_quotes() {
    let text = dot(&Graph::new(&stack()));
    let count = |what: &str| text.matches(what).count();
    assert_eq!((count("label="), count(" -> ")), (11, 9));
    assert!(text.contains("\"253:0\" -> \"7:4097\" [style=dashed, color=red];"), "{text}");
    assert!(text.contains(r#"\n/srv/<home> & \"cow\".img"];"#), "{text}");
}

#[test]
fn an_instance_without_devices_is_an_empty_picture() {
    let text = svg(&Graph::new(&[]));
    assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"), "{text}");
}
