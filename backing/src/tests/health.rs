use sim_core::Errno;

use crate::image::health::{Fault, Health};

#[test]
fn the_first_fault_stays() {
    let health = Health::default();
    assert_eq!(health.fault(), None);
    health.poison(Fault::Flush(Errno::NOSPC));
    health.poison(Fault::Unreadable);
    assert_eq!(health.fault(), Some(Fault::Flush(Errno::NOSPC)));
    assert!(health.lend().is_none() && !health.is_lent());
}
