//! Whole images, of every kind of layer that `dmsim open` knows in memory: what is found on them, and what becomes
//! of that when they are cut short or damaged.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

/// The metadata of a group as LVM2 2.03.16 wrote them on a real machine.
const GROUP: &[u8] = include_bytes!("../../recognise/tests/data/lvm2/group.txt");

fn seed(target: &str, name: &str) -> Vec<u8> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    std::fs::read(seeds.join(target).join(name)).expect("a seed")
}

#[test]
fn each_seed_becomes_the_devices_that_it_is_there_for() {
    for (name, devices) in [
        ("linear", "vg-root"),
        ("striped", "image0p1 vg-fast vg-lost-missing_0_0 vg-lost"),
        ("snapshot", "vg-root-real vg-cow-cow vg-cow vg-root"),
        ("mirror", "image0p1 vg-m_0 vg-m_1 vg-m_mlog vg-m"),
        ("raid", "vg-r_m0 vg-r_i0 vg-r_m1 vg-r_i1 vg-r"),
        ("thin", "image0p1"),
        ("lvm1", "image0p1 old-a"),
        ("ext4", "image0p1"),
    ] {
        assert_eq!(fuzz::devices(&seed("whole", name)).join(" "), devices, "{name}");
    }
}

/// The images that are cut and damaged: those of the seeds, and a volume of the large group, whose text goes round
/// the end of its ring.
static IMAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let seeds = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/whole"));
    let mut paths: Vec<_> =
        seeds.expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut inputs: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect();
    inputs.push([&[1, 230, 0, 0], GROUP].concat());
    inputs.iter().map(|input| fuzz::image(input).0).collect()
});

/// Opens an image, which is to take no time.
fn open(image: Vec<u8>, read_only: bool) -> usize {
    let started = Instant::now();
    let made = fuzz::opened(vec![image], read_only).len();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    made
}

#[test]
fn an_image_cut_at_any_length_plans_nothing_outside_it() {
    for (nr, image) in IMAGES.iter().enumerate() {
        let whole = open(image.clone(), false);
        let mut most = 0;
        // Every sector of what holds metadata, and some of the rest.
        let ends = (0..64 << 10).step_by(512).chain((64 << 10..image.len()).step_by(9973));
        for len in ends {
            most = most.max(open(image[..len].to_vec(), len & 512 == 0));
        }
        assert!(most > 0 || whole == 0, "image {nr}: nothing was opened of any piece");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..Default::default() })]

    /// Bytes that are not zero are changed, where the structure is, in up to twelve places; checksums are as they were.
    #[test]
    fn damage_plans_nothing_outside(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..9)), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
        read_only: bool,
    ) {
        let mut image = which.get(&IMAGES).clone();
        let places: Vec<usize> = (0..image.len()).filter(|at| image[*at] != 0).collect();
        for (at, bytes) in changes {
            let at = (*at.get(&places)).min(image.len() - bytes.len());
            image[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        open(image, read_only);
    }

    /// Numbers and words of the large group's text are changed, and the checksum made right.
    #[test]
    fn a_text_that_says_something_else_plans_nothing_outside(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8),
        at: u8,
        cut in 0u8..200,
    ) {
        let mut words: Vec<&str> =
            std::str::from_utf8(GROUP).expect("text").split(' ').collect();
        for (to, from) in edits {
            // What stands elsewhere in it: a number for a number, most often.
            let word = *from.get(&words);
            let to = to.index(words.len());
            words[to] = word;
        }
        let input = [&[3, at, cut, 0], words.join(" ").as_bytes()].concat();
        let (image, read_only) = fuzz::image(&input);
        open(image, read_only);
    }
}
