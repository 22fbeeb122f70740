//! What the targets of one instance share: the kernel keeps such things in static variables of a
//! target's module, as the table of origins and their snapshots.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Locked, Sector};

/// Which words of the tables built so far may be left out: where the target begins, and the first of
/// the words. For whoever tests a target.
#[derive(Default)]
pub(crate) struct OptionalWords(pub(crate) Locked<BTreeSet<(Sector, usize)>>);

/// One value of each type, made when it is first asked for.
#[derive(Default)]
pub(crate) struct Shared(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Shared {
    pub(crate) fn of<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        value.clone().downcast().expect("a value is kept under its own type")
    }
}
