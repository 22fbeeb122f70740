//! What an ordinary user mounts in a user namespace that exists: a copy of mounts can be made in no namespace
//! but one that the user has made, so a process of its own makes it there, and hands it on.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use daemon::launch::this_program;
use daemon::{About, Fault};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Has a process make a copy of what is mounted in a place, and below.
pub(super) fn from_own_namespace(dir: &Path) -> Result<OwnedFd, Fault> {
    let (ours, theirs) = UnixStream::pair().about("shell")?;
    let mut command = Command::new(this_program());
    command.arg0("dmsim").arg("hand-over").arg(dir).stdin(Stdio::from(OwnedFd::from(theirs)));
    let output = command.stderr(Stdio::piped()).output().about("tree")?;
    // Its end of the socket.
    drop(command);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Fault::new("shell", said.trim().trim_start_matches("dmsim: ")));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(&ours, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).about("tree")?;
    let sent = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    sent.ok_or_else(|| Fault::new("tree", "nothing was handed over"))
}

/// Makes such a copy, and hands it over on the standard input, a socket.
pub(crate) fn hand_over(dir: &Path) -> Result<(), Fault> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| Fault::new("shell", format!("no user namespace: {}", error.desc())))?;
    let tree = super::inside::detached(dir).about(dir.display())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [tree.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let data = [IoSlice::new(&[0])];
    sendmsg(rustix::stdio::stdin(), &data, &mut control, SendFlags::empty()).about("tree")?;
    Ok(())
}
