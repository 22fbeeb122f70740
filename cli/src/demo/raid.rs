//! The demonstration's second part: a raid6 of image files that loses two legs under a mounted file
//! system, and gets them back.

use super::content::{Content, digest};
use super::load::Load;
use super::show::Show;
use super::stage::Stage;
use super::{Filled, Repair, check_file_system, make_file_system, pause, read_back};
use daemon::Fault;

/// The set.
const SET: &str = "vault";
const LEGS: [&str; 5] = ["0.img", "1.img", "2.img", "3.img", "4.img"];

/// How large a leg is: 32 MiB of data, and a MiB for what the set knows of it.
const SIZE: &str = "33M";

/// How many blocks the set has: three legs' worth.
const BLOCKS: u64 = 3 * 32 * 256;

/// The legs that are lost.
const LOST: [&str; 2] = ["1", "3"];

/// Makes the set, uses it without two legs, and looks whether all is there. `content` is what goes into
/// its file system, if it is to have one.
pub(super) fn play(show: &Show, stage: &Stage, content: Option<&Content>) -> Result<(), Fault> {
    show.line("\nA raid6 of five image files, which can do without any two of them:")?;
    let create = [&["raid", "create", "raid6"][..], &LEGS, &[SET, "--size", SIZE]].concat();
    show.step(&format!("dmsim {}", create.join(" ")), || stage.run(&create).map(|_| None))?;
    let device = stage.device(SET);
    let filled = match content {
        Some(content) => Some(make_file_system(show, stage, &device, BLOCKS, content.clone())?),
        None => None,
    };
    let mut load = Load::new();
    let busy = show.value("keep it busy from here on", || {
        Ok((begin(stage, filled.as_ref(), &mut load)?, None))
    })?;
    pause();
    for leg in LOST {
        show.command(stage, &["fail", SET, leg])?;
        pause();
    }
    show.whole(stage, &["raid", "status", SET])?;
    if let Some(Filled { mounted: Some(mounted), .. }) = &filled {
        show.step("read the tree without them, by digest", || {
            content.map_or(Ok(None), |content| content.check(&Content::read(mounted)?))
        })?;
    }
    show.command(stage, &["heal", SET])?;
    show.step("end the load", || {
        let done = load.end()?;
        stage.unmount()?;
        Ok(busy.map(|busy| format!("{done} {busy}: no error, all as written")))
    })?;
    show.command(stage, &["raid", "check", SET])?;
    if let Some(filled) = &filled {
        check_file_system(show, &device, Repair::Journal)?;
        read_back(show, stage, &device, &filled.content)?;
    }
    let before = show.value("read the set", || digest(&device).map(|it| (it.clone(), Some(it))))?;
    show.command(stage, &["fail", SET, "0"])?;
    show.command(stage, &["fail", SET, "2"])?;
    show.step("read it from what the two had got back", || match digest(&device)? {
        now if now == before => Ok(Some(now)),
        now => Err(Fault::new(SET, format!("{now}, and it was {before}"))),
    })?;
    show.command(stage, &["heal", SET])
}

/// Begins to use the set; returns what of, where anything can be used.
fn begin(
    stage: &Stage,
    filled: Option<&Filled>,
    load: &mut Load,
) -> Result<Option<&'static str>, Fault> {
    match filled {
        None => load.use_blocks(&stage.device(SET), 0..BLOCKS).map(|()| Some("blocks")),
        Some(Filled { mounted: Some(mounted), .. }) => {
            load.use_files(&mounted.join("busy")).map(|()| Some("files"))
        }
        Some(Filled { mounted: None, .. }) => Ok(None),
    }
}
