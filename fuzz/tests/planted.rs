//! The fuzz target for metadata finds what it is there for: a target that trusts its disk.

use std::fmt;

use sim_core::{
    Area, Args, Bio, BoxFuture, CtrError, Errno, Mapped, Refusal, Registry, Sector, Sectors,
    StatusKind, StatusWriter, Target, TargetType,
};

/// `trusting <dev>`: the first byte of the device says which byte of a table of eight to show,
/// where it is not 0xff, which is refused.
struct Trusting(Area);

impl TargetType for Trusting {
    const NAME: &'static str = "trusting";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Trusting, CtrError> {
        let (device, len) = (args.next("no device")?, args.target_len());
        Ok(Trusting(args.area(device, Sector::ZERO, len, "no such device")?))
    }
}

impl Target for Trusting {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let sector = bio.sector;
        Mapped::Remapped(&self.0, sector, bio)
    }

    fn status(&self, _kind: StatusKind, _out: &mut StatusWriter<'_>) -> fmt::Result {
        Ok(())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.0);
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            let mut header = [0; 512];
            self.0.submit(Sector::ZERO, Bio::read(Sector::ZERO, &mut header)).await?;
            match header[0] {
                0xff => Err(Errno::INVAL.into()),
                index => {
                    assert_eq!([0; 8][usize::from(index)], 0);
                    Ok(())
                }
            }
        })
    }
}

fn fuzz(data: &[u8]) -> Result<(), Errno> {
    let table = format!("0 {} trusting a", Sectors(64));
    fuzz::metadata(Registry::new().with::<Trusting>(), &table, data)
}

#[test]
fn content_is_taken_refused_or_the_panic_shows() {
    assert_eq!(fuzz(&[]), Ok(()));
    assert_eq!(fuzz(&[7, 1, 2, 3]), Ok(()));
    assert_eq!(fuzz(&[0xff]), Err(Errno::INVAL));
    assert!(std::panic::catch_unwind(|| fuzz(&[8])).is_err(), "an index past the end");
}
