//! The example tables of the classic device-mapper article, as they stand there.

use crate::harness::{Instance, bytes, read_at, write_at};

const SECTOR: u64 = 512;

#[test]
fn the_articles_linear_table_runs_as_it_stands() {
    let instance = Instance::start();
    let a = instance.image("a.img", "/dev/sda", 4096 * SECTOR);
    let b = instance.image("b.img", "/dev/sdb", 4096 * SECTOR);
    let c = instance.image("c.img", "/dev/sdc", 4096 * SECTOR);
    let table =
        "0 1024 linear /dev/sda 204\n1024 512 linear /dev/sdb 766\n1536 128 linear /dev/sdc 0";
    let device = instance.create("article", table);
    assert_eq!(
        instance.dmsim(&["table", "article"]),
        "0 1024 linear 8:0 204\n1024 512 linear 8:16 766\n1536 128 linear 8:32 0\n"
    );
    let data = bytes(1, (1664 * SECTOR) as usize);
    write_at(&device, 0, &data).expect("a write of the whole device");
    for (image, from, at, len) in [(&a, 0, 204, 1024), (&b, 1024, 766, 512), (&c, 1536, 0, 128)] {
        let part = &data[(from * SECTOR) as usize..((from + len) * SECTOR) as usize];
        let below = read_at(image, at * SECTOR, part.len()).expect("the image");
        assert!(below == part, "{} sectors from {from} on", len);
    }
    assert!(read_at(&device, 0, data.len()).expect("the device") == data);
}

#[test]
fn the_articles_mirror_table_runs_as_it_stands() {
    let instance = Instance::start();
    let a = instance.image("a.img", "/dev/sda", 8192 * SECTOR);
    let b = instance.image("b.img", "/dev/sdb", 8192 * SECTOR);
    let table = "0 4711 mirror core 2 64 nosync 2 /dev/sda 2048 /dev/sdb 1024";
    let device = instance.create("mirror", table);
    let shown = "0 4711 mirror core 2 64 nosync 2 8:0 2048 8:16 1024\n";
    assert_eq!(instance.dmsim(&["table", "mirror"]), shown);
    assert_eq!(
        instance.dmsim(&["status", "mirror"]),
        "0 4711 mirror 2 8:0 8:16 74/74 1 AA 1 core\n"
    );
    let data = bytes(3, (4711 * SECTOR) as usize);
    write_at(&device, 0, &data).expect("a write of the whole device");
    for (image, start) in [(&a, 2048), (&b, 1024)] {
        assert!(read_at(image, start * SECTOR, data.len()).expect("the image") == data);
    }
    assert!(read_at(&device, 0, data.len()).expect("the device") == data);
    assert!(instance.dmsim(&["check", "mirror"]).ends_with("no region differs\n"));
}

#[test]
fn the_articles_striped_table_runs_as_it_stands() {
    let instance = Instance::start();
    let a = instance.image("a.img", "/dev/sda", 4096 * SECTOR);
    let b = instance.image("b.img", "/dev/sdb", 4096 * SECTOR);
    let device = instance.create("striped", "0 2048 striped 2 64 /dev/sda 1024 /dev/sdb 0");
    assert_eq!(instance.dmsim(&["status", "striped"]), "0 2048 striped 2 8:0 8:16 1 AA\n");
    let data = bytes(2, (2048 * SECTOR) as usize);
    write_at(&device, 0, &data).expect("a write of the whole device");
    for chunk in 0..32u64 {
        let (image, start) = if chunk % 2 == 0 { (&a, 1024) } else { (&b, 0) };
        let at = (start + chunk / 2 * 64) * SECTOR;
        let want = &data[(chunk * 64 * SECTOR) as usize..][..64 * SECTOR as usize];
        assert!(read_at(image, at, want.len()).expect("the image") == want, "chunk {chunk}");
    }
}
