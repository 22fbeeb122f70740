//! Takes a snapshot of a device of a running instance, from a program of one's own:
//! `cargo run -p dmsim-ops --example take_snapshot -- DIR ORIGIN NAME`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use daemon::{Client, Fault, Instance};
use ops::snapshot::{Take, take};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, origin, name] = &words[..] else {
        eprintln!("usage: take_snapshot DIR ORIGIN NAME");
        return ExitCode::from(2);
    };
    match snapshot(dir, origin, name) {
        Ok(file) => {
            println!("{}", file.display());
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn snapshot(dir: &str, origin: &str, name: &str) -> Result<PathBuf, Fault> {
    let instance = Instance::find(Some(dir.as_ref()))?;
    let mut client = Client::connect(&instance)?;
    let instance = client.served(&instance);
    let ask = Take { origin: origin.to_owned(), name: name.to_owned(), ..Take::default() };
    // Nobody interrupts it, and nobody is shown how far it is.
    take(&mut client, &instance, &ask, &AtomicBool::new(false))
}
