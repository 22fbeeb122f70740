//! Keys that lie in the kernel's key ring (`keyrings(7)`), as `keyctl` and `cryptsetup` put them.

use linux_keyutils::{Key, KeyError, KeyRing, KeyRingIdentifier};
use sim_core::Errno;
use zeroize::Zeroizing;

/// The longest payload of a key of type `user`; the kernel's limit.
const MAX_PAYLOAD: usize = 32767;

/// Reads the payload of a key that this process can see: one in its session's key ring, or in
/// its user's.
pub(crate) fn read(kind: &str, description: &str) -> Result<Zeroizing<Vec<u8>>, Errno> {
    if kind != KIND {
        return Err(Errno::INVAL);
    }
    let key = find(description).map_err(errno)?;
    let mut payload = Zeroizing::new(vec![0; MAX_PAYLOAD]);
    let len = key.read(&mut payload).map_err(errno)?;
    payload.truncate(len);
    Ok(payload)
}

/// The one type whose payload can be read and is what it stands for.
const KIND: &str = "user";

fn find(description: &str) -> Result<Key, KeyError> {
    let rings = [KeyRingIdentifier::Session, KeyRingIdentifier::User];
    let mut result = Err(KeyError::KeyDoesNotExist);
    for ring in rings {
        result = KeyRing::from_special_id(ring, false)?.search(description);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn errno(error: KeyError) -> Errno {
    match error {
        KeyError::AccessDenied => Errno::ACCES,
        _ => Errno::NOKEY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_session_is_read_and_a_missing_one_told() {
        let name = format!("dmsim-test-{}", std::process::id());
        assert_eq!(read("user", &name).err(), Some(Errno::NOKEY));
        let ring = KeyRing::from_special_id(KeyRingIdentifier::User, false);
        let Ok(key) = ring.and_then(|ring| ring.add_key(&name, b"payload")) else {
            eprintln!("skipped: no key ring to put a key into");
            return;
        };
        let found = read("user", &name);
        key.invalidate().expect("one's own key goes");
        assert_eq!(found.map(|payload| payload.to_vec()), Ok(b"payload".to_vec()));
        assert_eq!(read("logon", &name).err(), Some(Errno::INVAL));
    }
}
