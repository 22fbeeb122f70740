//! Groups that the LVM2 which is installed has made.

use std::path::{Path, PathBuf};
use std::process::Command;

use recognise::volumes::lvm2::{self, Groups, PhysicalVolume};
use recognise::volumes::{Place, plan};
use targets::lines::DeviceWord;

/// Whether LVM2 can be tried: it takes block devices alone. Without it a test is skipped; not so where CI is to
/// run it.
fn have_lvm() -> bool {
    let root = rustix::process::geteuid().is_root();
    let found =
        root && Command::new("lvm").arg("version").output().is_ok_and(|it| it.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "no lvm, or no root");
        println!("skipped: lvm is not installed, or this is not root");
    }
    found
}

/// Images behind loop devices, and LVM2's own folder for them.
struct Disks {
    folder: tempfile::TempDir,
    loops: Vec<String>,
}

impl Disks {
    fn new(count: usize, size: u64) -> Disks {
        let mut disks = Disks { folder: tempfile::tempdir().expect("a folder"), loops: Vec::new() };
        for nr in 0..count {
            let path = disks.image(nr);
            std::fs::File::create(&path).and_then(|file| file.set_len(size)).expect("an image");
            let shown = Command::new("losetup").args(["--find", "--show"]).arg(&path).output();
            let shown = shown.expect("losetup");
            assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
            disks.loops.push(String::from_utf8_lossy(&shown.stdout).trim().to_owned());
        }
        disks
    }

    fn image(&self, nr: usize) -> PathBuf {
        self.folder.path().join(format!("{nr}.img"))
    }

    /// Runs LVM2 without any device-mapper, on these devices alone.
    fn lvm(&self, arguments: &[&str]) -> String {
        let accept: Vec<String> = self.loops.iter().map(|it| format!("\"a|^{it}$|\"")).collect();
        let config = format!(
            "devices {{ dir=\"/dev\" scan=\"/dev\" filter=[{},\"r|.*|\"] use_devicesfile=0 }} \
             global {{ use_lvmpolld=0 locking_type=1 }} activation {{ udev_sync=0 udev_rules=0 }} \
             backup {{ backup=0 archive=0 }}",
            accept.join(",")
        );
        let output = Command::new("lvm")
            .args(arguments)
            .args(["--config", &config, "--driverloaded", "n"])
            .env("LVM_SYSTEM_DIR", self.folder.path())
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .output()
            .expect("lvm");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lvm {arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn read(&self) -> (Vec<PhysicalVolume>, Groups) {
        let read = |nr| {
            let image = std::fs::read(self.image(nr)).expect("an image");
            lvm2::read(&image).expect("sound").expect("a label")
        };
        let volumes: Vec<PhysicalVolume> = (0..self.loops.len()).map(read).collect();
        let names: Vec<String> = (0..volumes.len()).map(|nr| format!("{nr}.img")).collect();
        let groups = lvm2::groups(&volumes, &names).expect("no copies");
        (volumes, groups)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for device in &self.loops {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
    }
}

/// What `lvs` says of a segment: volume, first extent, and the ranges of physical extents.
fn segments(disks: &Disks) -> Vec<String> {
    let lines = disks.lvm(&[
        "lvs",
        "--segments",
        "--noheadings",
        "--separator",
        " ",
        "-a",
        "-o",
        "lv_name,seg_start_pe,seg_pe_ranges",
    ]);
    let mut lines: Vec<String> = lines.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

/// The same, of what was read.
fn segments_read(disks: &Disks, groups: &Groups) -> Vec<String> {
    use recognise::volumes::{Area, Mapping};
    let mut lines = Vec::new();
    for found in &groups.groups {
        for volume in &found.group.logical {
            for segment in &volume.segments {
                let Mapping::Striped { areas, .. } = &segment.mapping else {
                    panic!("{segment:?}")
                };
                let len = segment.extents / areas.len() as u64;
                let range = |area: &Area| match area {
                    Area::Physical { volume, extent } => {
                        let device = &disks.loops[found.there[*volume].expect("is there")];
                        format!("{device}:{extent}-{}", extent + len - 1)
                    }
                    Area::Logical { .. } => panic!("{area:?}"),
                };
                let ranges: Vec<String> = areas.iter().map(range).collect();
                lines.push(format!("{} {} {}", volume.name, segment.start, ranges.join(" ")));
            }
        }
    }
    lines.sort();
    lines
}

/// Tells whether the text that was committed last goes round the end of the ring.
fn has_wrapped(image: &Path) -> bool {
    let bytes = std::fs::read(image).expect("an image");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (size, offset, len) = (number(4096 + 32), number(4096 + 40), number(4096 + 48));
    offset + len > size
}

#[test]
fn a_ring_that_has_wrapped_two_areas_and_an_alignment_of_ones_own() {
    if !have_lvm() {
        return;
    }
    let disks = Disks::new(3, 64 << 20);
    let [one, two, three] = [0, 1, 2].map(|nr| disks.loops[nr].clone());
    disks.lvm(&["pvcreate", "-y", "--dataalignment", "64k", "--metadatasize", "60k", &one]);
    disks.lvm(&["pvcreate", "-y", "--metadatacopies", "2", "--metadatasize", "60k", &two]);
    disks.lvm(&["pvcreate", "-y", "--metadatacopies", "0", "--dataalignment", "3m", &three]);
    disks.lvm(&["vgcreate", "-s", "512k", "a-b", &one, &two, &three]);
    let mut wrapped = false;
    for nr in 0..12 {
        // So that the texts are long.
        let tag = format!("tag-{nr}-{}", "x".repeat(900));
        disks.lvm(&["vgchange", "--addtag", &tag, "a-b"]);
        wrapped |= has_wrapped(&disks.image(0));
        let name = format!("with-hyphen-{nr}");
        let on = &disks.loops[nr % 3];
        disks.lvm(&["lvcreate", "-y", "-an", "-Zn", "-Wn", "-l", "1", "-n", &name, "a-b", on]);
        disks.lvm(&["lvextend", "-y", "-l", "+1", "a-b/with-hyphen-0", on]);
        // Each of these is another text in the ring.
        let (volumes, groups) = disks.read();
        assert_eq!(volumes.iter().flat_map(|it| &it.warnings).count(), 0, "{volumes:?}");
        assert_eq!(segments_read(&disks, &groups), segments(&disks));
    }
    assert!(wrapped, "no text went on behind the header");
    let (_, groups) = disks.read();
    let starts: Vec<u64> = groups.groups[0].group.physical.iter().map(|it| it.first).collect();
    assert_eq!(starts[2], 3 * 2048, "{starts:?}");
    let names = disks.lvm(&["lvs", "--noheadings", "-o", "lv_dm_path", "a-b"]);
    let place =
        |nr: usize| Some(Place { device: DeviceWord(format!("7:{nr}")), sectors: 64 << 11 });
    let planned = plan(&groups.groups[0].group, &[place(0), place(1), place(2)], false);
    let mut planned: Vec<String> =
        planned.layers.iter().map(|layer| format!("/dev/mapper/{}", layer.name)).collect();
    planned.sort();
    assert_eq!(planned, names.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn three_hundred_volumes_and_one_of_forty_segments() {
    if !have_lvm() {
        return;
    }
    let disks = Disks::new(2, 256 << 20);
    let [one, two] = [0, 1].map(|nr| disks.loops[nr].clone());
    disks.lvm(&["vgcreate", "-s", "64k", "many", &one, &two]);
    // As a file, and put back: three hundred commands would take a minute.
    let file = disks.folder.path().join("many.vg");
    let backup = |file: &Path| disks.lvm(&["vgcfgbackup", "-f", file.to_str().unwrap(), "many"]);
    disks.lvm(&["lvcreate", "-y", "-an", "-Zn", "-Wn", "-l", "1", "-n", "first", "many", &one]);
    backup(&file);
    let text = std::fs::read_to_string(&file).expect("a backup");
    let mut volumes = String::new();
    for nr in 0..300 {
        let segments = if nr == 7 { 40 } else { 1 };
        volumes += &format!(
            "lv{nr} {{ id = \"aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-{nr:06}\" status = [\"READ\", \"WRITE\", \
             \"VISIBLE\"] flags = [] segment_count = {segments}\n"
        );
        for segment in 0..segments {
            let (on, extent) = match segments {
                1 => (0, 1 + nr),
                // Back and forth, so that no two are neighbours.
                _ => (segment % 2, 1000 + segment * 3),
            };
            volumes += &format!(
                "segment{} {{ start_extent = {segment} extent_count = 1 type = \"striped\" stripe_count = 1 \
                 stripes = [\"pv{on}\", {extent}] }}\n",
                segment + 1
            );
        }
        volumes += "}\n";
    }
    std::fs::write(
        &file,
        text.replacen("logical_volumes {", &format!("logical_volumes {{\n{volumes}"), 1),
    )
    .expect("room for it");
    disks.lvm(&["vgcfgrestore", "-f", file.to_str().unwrap(), "many"]);
    let (_, groups) = disks.read();
    assert_eq!(groups.groups[0].group.logical.len(), 301);
    assert_eq!(segments_read(&disks, &groups), segments(&disks));
}
