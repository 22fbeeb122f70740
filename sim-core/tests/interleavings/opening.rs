//! Those who open a device, and one who removes it.

use std::sync::Arc;

use shuttle::thread;
use sim_core::Errno;

use crate::opens::Opens;
use crate::{join, try_interleavings};

#[test]
fn a_device_is_opened_or_removed_and_never_both() {
    try_interleavings(|| {
        let opens = Arc::new(Opens::default());
        let users = [(); 2].map(|()| {
            let opens = opens.clone();
            thread::spawn(move || opens.open())
        });
        let removed = opens.retire();
        let opened = join(users);
        let count = opened.iter().filter(|opened| opened.is_ok()).count();
        assert_eq!(opens.count() as usize, count);
        match removed {
            Ok(()) => assert_eq!(opened, [Err(Errno::NXIO); 2]),
            Err(errno) => {
                assert_eq!(errno, Errno::BUSY);
                assert!(count > 0);
            }
        }
    });
}

#[test]
fn a_device_that_all_have_closed_can_be_removed() {
    try_interleavings(|| {
        let opens = Arc::new(Opens::default());
        let users = [(); 2].map(|()| {
            let opens = opens.clone();
            thread::spawn(move || {
                if opens.open().is_ok() {
                    opens.release();
                }
            })
        });
        let removed = opens.retire();
        join(users);
        assert_eq!(opens.count(), 0);
        let again = opens.retire();
        assert_ne!(removed.is_ok(), again.is_ok(), "it is removed once");
        assert_eq!(opens.open(), Err(Errno::NXIO));
    });
}
