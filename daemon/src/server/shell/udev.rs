//! Keeps the machine's udev from looking into block nodes, where one runs: they are for the programs of shells, and
//! whoever probes them holds them open.
//!
//! A rule does it that is there as long as the private device-mapper. It is the same for all instances, and each has
//! a file of its own, so that one that ends takes none of another's away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sim_core::MAX_TABLE_LEN;

/// What is there where a udev runs.
const CONTROL: &str = "/run/udev/control";

/// Where rules lie that a reboot takes away.
const RULES: &str = "/run/udev/rules.d";

/// How long udev may take to say that it has read the rules again. It looks by itself too, some seconds later.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names of loop devices from [`block_frontend::FIRST_DISK`] on, and of their partitions: patterns know no
/// numbers.
const LOOPS: &str = "loop6553[6-9]*|loop655[4-9][0-9]*|loop65[6-9][0-9][0-9]*|loop6[6-9][0-9][0-9][0-9]*|\
                     loop[7-9][0-9][0-9][0-9][0-9]*|loop[1-9][0-9][0-9][0-9][0-9][0-9]*";

/// Has udev leave block nodes alone, for the private device-mapper in `dir`, and returns the rule's file; nothing
/// where no udev runs, or it cannot be told.
pub(super) fn hide(dir: &Path) -> Option<PathBuf> {
    if !Path::new(CONTROL).exists() {
        return None;
    }
    let path = file(dir);
    let written = fs::create_dir_all(RULES).and_then(|()| fs::write(&path, rule(dir)));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "udev looks into block nodes");
        return None;
    }
    reload();
    Some(path)
}

/// Takes away the rule for a private device-mapper, also one that an earlier daemon has left.
pub(super) fn clean(dir: &Path) {
    let path = file(dir);
    let is_ours = fs::read_to_string(&path).is_ok_and(|text| text == rule(dir));
    if !is_ours {
        return;
    }
    if let Err(error) = fs::remove_file(&path) {
        tracing::warn!(%error, path = %path.display(), "a rule for udev stays");
    }
    reload();
}

fn file(dir: &Path) -> PathBuf {
    let number = crc32fast::hash(dir.as_os_str().as_encoded_bytes());
    Path::new(RULES).join(format!("10-dmsim-{number:08x}.rules"))
}

/// The text of the rule. Before all others: they ask for what it says.
fn rule(dir: &Path) -> String {
    format!(
        "# Made by dmsim for {:?}, and taken away when its daemon ends:\n\
         # block nodes of `dmsim shell` are nobody else's.\n\
         ACTION==\"remove\", GOTO=\"dmsim_end\"\n\
         SUBSYSTEM!=\"block\", GOTO=\"dmsim_end\"\n\
         KERNEL==\"{LOOPS}\", GOTO=\"dmsim_node\"\n\
         KERNEL==\"ublkb*\", ATTRS{{size}}==\"{}\", GOTO=\"dmsim_node\"\n\
         GOTO=\"dmsim_end\"\n\
         LABEL=\"dmsim_node\"\n\
         OPTIONS:=\"nowatch\"\n\
         ENV{{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}}=\"1\"\n\
         ENV{{DM_UDEV_DISABLE_OTHER_RULES_FLAG}}=\"1\"\n\
         ENV{{DM_MULTIPATH_DEVICE_PATH}}=\"0\"\n\
         ENV{{SYSTEMD_READY}}=\"0\"\n\
         ENV{{UDISKS_IGNORE}}=\"1\"\n\
         LABEL=\"dmsim_end\"\n",
        // Quoted: whatever it is called is one line.
        dir,
        MAX_TABLE_LEN.0
    )
}

/// Has udev read its rules again.
fn reload() {
    let mut udevadm = Command::new("udevadm");
    udevadm.args(["control", "--reload"]);
    udevadm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let told = udevadm.spawn().and_then(|mut udevadm| {
        let deadline = Instant::now() + PATIENCE;
        while udevadm.try_wait()?.is_none() {
            if Instant::now() > deadline {
                udevadm.kill()?;
                udevadm.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    if let Err(error) = told {
        tracing::warn!(%error, "udev is not told of a rule, and finds it by itself later");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells whether a name fits a pattern of characters, `[a-b]` and an end of `*`.
    fn fits(pattern: &str, name: &str) -> bool {
        let (mut pattern, mut name) = (pattern.bytes(), name.bytes());
        loop {
            let is_fit = match pattern.next() {
                None => return name.next().is_none(),
                Some(b'*') => return true,
                Some(b'[') => {
                    let range: Vec<u8> =
                        pattern.by_ref().take_while(|byte| *byte != b']').collect();
                    name.next().is_some_and(|byte| (range[0]..=range[2]).contains(&byte))
                }
                Some(byte) => name.next() == Some(byte),
            };
            if !is_fit {
                return false;
            }
        }
    }

    #[test]
    fn the_rule_is_for_nodes_of_ours_alone() {
        let first = block_frontend::FIRST_DISK;
        for number in (0..200_000).chain(1_000_000..1_048_576) {
            for name in [format!("loop{number}"), format!("loop{number}p1")] {
                let is_hidden = LOOPS.split('|').any(|pattern| fits(pattern, &name));
                assert_eq!(is_hidden, number >= first, "{name}");
            }
        }
    }
}
