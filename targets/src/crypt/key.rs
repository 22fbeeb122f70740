//! The bytes of a key, where its line has them or the kernel's key ring.

use crypto::Secret;
use sim_core::{Errno, Runtime};

use crate::lines::crypt::{Key, KeyFault};

/// Types of key that are of no use here, and why.
const OUT_OF_REACH: [(&str, &str); 2] = [
    ("logon", "only the kernel can read a key of type `logon`"),
    ("encrypted", "only the kernel can decrypt a key of type `encrypted`"),
];

/// Returns a key's bytes, from the key ring if need be.
pub(super) fn load(key: &Key, runtime: &dyn Runtime) -> Result<Secret, KeyFault> {
    match key {
        Key::Bytes(key) => Ok(key.clone()),
        Key::Wiped(_) => Err(KeyFault { errno: Errno::NOKEY, detail: "key wiped".to_owned() }),
        Key::Ring { size, kind, description } => {
            let out_of_reach = OUT_OF_REACH.iter().find(|(known, _)| known == kind);
            if let Some((_, why)) = out_of_reach {
                let detail = format!("{why}: give it as type `user`");
                return Err(KeyFault { errno: Errno::NOKEY, detail });
            }
            let key = runtime.key(kind, description).map_err(|errno| {
                let detail = format!("key `{kind}:{description}`: {errno}");
                KeyFault { errno, detail }
            })?;
            if key.len() != *size {
                let found = key.len();
                let detail =
                    format!("key `{kind}:{description}`: expected {size} bytes, found {found}");
                return Err(KeyFault { errno: Errno::INVAL, detail });
            }
            Ok(Secret::from(&key[..]))
        }
    }
}
