//! The target types that tables can name, and how a target of each is made.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::{Args, CtrError, Errno, Target};

/// What all targets of a type have in common: the kernel's `DM_TARGET_*` feature bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Must be the only target of its table.
    pub singleton: bool,
    /// Cannot be in a read-only table.
    pub always_writeable: bool,
    /// A live table with it is replaced by one of the same type alone.
    pub immutable: bool,
    /// Replaces any other type, immutable ones too.
    pub wildcard: bool,
    /// Maps requests as well as bios: a table of such targets alone is of the type that its device
    /// has. In the kernel, a type with both `map` and `clone_and_map_rq`.
    pub hybrid: bool,
    /// Changes the devices below by itself once it is resumed. Where devices are built again from
    /// a record, it comes after all that map onto the same ones. Not one of the kernel's bits.
    pub changes_below: bool,
}

impl Features {
    /// What most types have.
    pub const NONE: Features = Features {
        singleton: false,
        always_writeable: false,
        immutable: false,
        wildcard: false,
        hybrid: false,
        changes_below: false,
    };
}

/// A kind of target: its name, and how one is made from the words of a table line.
pub trait TargetType: Target + Sized + 'static {
    /// The word in table lines.
    const NAME: &'static str;
    /// The version, as `dmsetup targets` prints it.
    const VERSION: [u32; 3];
    /// What all targets of the type have in common.
    const FEATURES: Features = Features::NONE;

    /// A table line of the type that tools may try, over the devices `a`, `b` and `c` of 512 KiB each:
    /// `0 512 last-first a 16`. None where it is empty.
    const EXAMPLE: &'static str = "";

    /// Messages that every target of the type takes, whatever its table: `["delay 5", "flush"]`. Tools
    /// send them while bios are under way.
    const MESSAGES: &'static [&'static str] = &[];

    /// Makes a target from the words after the type in a table line (`ctr`).
    fn ctr(args: &mut Args<'_>) -> Result<Self, CtrError>;
}

/// A kind of target, as the registry keeps it.
pub trait AnyTargetType: Send + Sync {
    /// The word in table lines.
    fn name(&self) -> &str;
    /// The version, as `dmsetup targets` prints it.
    fn version(&self) -> [u32; 3];
    /// What all targets of the type have in common.
    fn features(&self) -> Features;
    /// A table line of the type that tools may try; empty where there is none.
    fn example(&self) -> &str {
        ""
    }
    /// Messages that every target of the type takes.
    fn messages(&self) -> &[&'static str] {
        &[]
    }
    /// Makes a target from the words after the type in a table line.
    fn ctr(&self, args: &mut Args<'_>) -> Result<Box<dyn Target>, CtrError>;
}

struct Static<T>(PhantomData<fn() -> T>);

impl<T: TargetType> AnyTargetType for Static<T> {
    fn name(&self) -> &str {
        T::NAME
    }
    fn version(&self) -> [u32; 3] {
        T::VERSION
    }
    fn features(&self) -> Features {
        T::FEATURES
    }
    fn example(&self) -> &str {
        T::EXAMPLE
    }
    fn messages(&self) -> &[&'static str] {
        T::MESSAGES
    }
    fn ctr(&self, args: &mut Args<'_>) -> Result<Box<dyn Target>, CtrError> {
        Ok(Box::new(T::ctr(args)?))
    }
}

/// The target types that tables can name.
#[derive(Clone, Default)]
pub struct Registry {
    types: BTreeMap<String, Arc<dyn AnyTargetType>>,
    // Newest first, as the kernel lists them.
    order: Vec<String>,
}

impl Registry {
    /// Makes a registry without types.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds a type.
    ///
    /// # Panics
    /// When a type of this name is there already.
    #[must_use]
    pub fn with<T: TargetType>(mut self) -> Registry {
        self.add(Arc::new(Static::<T>(PhantomData)))
            .unwrap_or_else(|_| panic!("target type {} is registered twice", T::NAME));
        self
    }

    /// Adds a type made at run time; [`Errno::EXIST`] when its name is taken.
    pub fn add(&mut self, target_type: Arc<dyn AnyTargetType>) -> Result<(), Errno> {
        let name = target_type.name().to_owned();
        if self.types.contains_key(&name) {
            return Err(Errno::EXIST);
        }
        self.order.insert(0, name.clone());
        self.types.insert(name, target_type);
        Ok(())
    }

    /// Finds a type by its name.
    pub fn find(&self, name: &str) -> Option<&Arc<dyn AnyTargetType>> {
        self.types.get(name)
    }

    /// Lists the types, the last added first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn AnyTargetType>> {
        self.order.iter().map(|name| &self.types[name])
    }
}
