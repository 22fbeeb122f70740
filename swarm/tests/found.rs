//! Cases that failed once: what the swarm found in our own targets, as it wrote it down.

use std::fs;
use std::path::Path;

use swarm::Verdict;

#[test]
fn what_was_found_once_holds_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/found");
    let registry = targets::registry();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case = fs::read_to_string(&path).unwrap();
        assert_eq!(swarm::repeat(&case, &registry), Verdict::Held, "{}", path.display());
        count += 1;
    }
    assert!(count >= 3, "{count} cases");
}

/// What is found and not mended: a case that holds at last goes to those that were found.
#[test]
fn what_is_open_still_fails() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/open");
    let registry = targets::registry();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "case") {
            continue;
        }
        let verdict = swarm::repeat(&fs::read_to_string(&path).unwrap(), &registry);
        assert!(matches!(verdict, Verdict::Failed(_)), "{}: {verdict:?}", path.display());
    }
}

#[test]
fn the_text_of_a_case_is_all_of_it_and_repeats_it() {
    let registry = targets::registry();
    for seed in 0..60 {
        let case = swarm::make(seed, &registry);
        let text = case.to_string();
        assert_eq!(text.parse().as_ref(), Ok(&case), "{text}");
        let first = swarm::run(&case, &registry);
        assert_eq!(swarm::run(&case, &registry), first, "seed {seed}");
    }
}

/// Every kind of step is written and read, a flush among them.
#[test]
fn a_text_is_read_as_the_case_that_it_was_written_from() {
    let registry = targets::registry();
    let mut flushes = 0;
    for seed in 0..500 {
        let case = swarm::make(seed, &registry);
        let text = case.to_string();
        assert_eq!(text.parse().as_ref(), Ok(&case), "{text}");
        flushes += text.matches(" Flush").count();
    }
    assert!(flushes > 100, "{flushes} flushes");
}
