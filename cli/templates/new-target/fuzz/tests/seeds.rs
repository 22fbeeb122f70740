//! Replays the seeds: what cargo-fuzz starts from, and what it once found.

use std::path::Path;

#[test]
fn table() {
    replay("table", crate_name_fuzz::table);
}

#[test]
fn format() {
    replay("format", crate_name_fuzz::format);
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    for seed in std::fs::read_dir(&folder).expect("a folder of seeds") {
        let path = seed.expect("an entry").path();
        println!("{}", path.display());
        run(&std::fs::read(&path).expect("a seed"));
    }
}
