//! Every step of `raid grow` made to fail.

use super::*;
use crate::raid::grow::{self, Grow};
use crate::raid::leg::label::Label;

fn more(images: &[PathBuf]) -> Grow {
    Grow { name: "r".to_owned(), images: images.to_vec(), force: false, waits: true }
}

fn add(bench: &mut Bench, images: &[PathBuf], fails: Fails) -> Result<(), Fault> {
    let plan = grow::plan(bench, &more(images))?;
    (bench.fails, bench.calls) = (fails, 0);
    let result = grow::carry_out(bench, &plan, &GO_ON);
    bench.fails = Fails::Never;
    result
}

/// Makes a raid1 of two legs that hold sevens, and two images more.
fn raid1(bench: &mut Bench) -> Vec<PathBuf> {
    let images: Vec<PathBuf> = (0..2).map(|leg| image(bench, &format!("leg{leg}"), 7)).collect();
    let ask = Create { no_sync: true, force: true, ..ask("raid1", &images) };
    make(bench, &ask, Fails::Never).expect("a set");
    (0..2).map(|leg| image(bench, &format!("new{leg}"), 0)).collect()
}

#[test]
fn whatever_fails_of_more_legs_the_set_stays_good() {
    for when in [Fails::At as fn(usize) -> Fails, Fails::After] {
        for at in 1.. {
            let mut bench = Bench::new();
            let new = raid1(&mut bench);
            let records = bench.records();
            let result = add(&mut bench, &new, when(at));
            let device = find(&mut bench, "r").expect("no fault").expect("a device");
            assert!(!device.status.suspended, "step {at}");
            let over = bench.calls < at;
            match result {
                Ok(()) if over => {}
                Ok(()) => assert!(matches!(when(at), Fails::After(_)), "step {at}"),
                Err(fault) if fault.why.contains("is as it was") => {
                    assert_eq!(bench.records(), records, "step {at}");
                    add(&mut bench, &new, Fails::Never).expect("legs");
                }
                Err(fault) => {
                    let are_in = "the new legs are in their places, and are filled";
                    assert!(fault.why.contains(are_in), "{at}: {fault}");
                    heal(&mut bench, "r", None, true, &GO_ON).expect("it is good");
                }
            }
            wait(&mut bench, "r", &GO_ON).expect("it is synced");
            assert_eq!(states(&mut bench), [LegState::InSync; 4], "step {at}");
            let device = find(&mut bench, "r").expect("no fault").expect("a device");
            assert!(!device.live[0].params.contains("rebuild"), "step {at}");
            let label = |image: &Path| Label::of(image).expect("an image");
            let own = label(&bench.dir.path().join("leg0"));
            assert!(own.is_some());
            for image in &new {
                assert_eq!(label(image), own, "step {at}: a leg of no set");
                assert!(data(image).iter().all(|byte| *byte == 7), "step {at}: it lacks data");
            }
            // The images alone tell of all four.
            remove(&mut bench, "r").expect("nobody uses it");
            let all: Vec<PathBuf> =
                ["leg0", "new1", "leg1", "new0"].map(|leg| bench.dir.path().join(leg)).to_vec();
            put_together(&mut bench, &all, Fails::Never).expect("a set");
            assert_eq!(states(&mut bench), [LegState::InSync; 4], "step {at}");
            if over {
                break;
            }
        }
    }
}

#[test]
fn what_cannot_grow_says_why() {
    let mut bench = Bench::new();
    let new = raid1(&mut bench);
    let mut refused = |images: &[PathBuf], why: &str| {
        let fault = grow::plan(&mut bench, &more(images)).err().expect("it is refused");
        assert!(fault.to_string().contains(why), "{fault}");
    };
    refused(&[new[0].clone(), new[0].clone()], "is there twice");
    let small = new[0].with_file_name("small");
    std::fs::write(&small, [0; 4096]).expect("room for it");
    refused(&[small], "is too small");
    let full = new[0].with_file_name("full");
    std::fs::write(&full, vec![1; (META + SIZE).bytes() as usize]).expect("room for it");
    refused(&[full], "is not empty, and is left alone");
    refused(&[new[0].with_file_name("leg1")], "leg1");
    refused(&[new[0].with_file_name("none")], "no such file");
    fail(&mut bench, "r", "1", Failing::All).expect("a leg");
    check(&mut bench, "r", true, &GO_ON).expect("a look");
    let fault = grow::plan(&mut bench, &more(&new)).err().expect("it is degraded");
    assert!(fault.why.contains("leg 1 is not in sync: `dmsim heal r`"), "{fault}");
}
