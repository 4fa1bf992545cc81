//! Names as types of their own, and secrets that cannot be printed.

use std::fmt;
use std::sync::Arc;

/// Defines a name as a type of its own, cheap to clone.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(Arc<str>);

        impl $name {
            /// Wraps a name that the config has checked.
            pub(crate) fn new(name: &str) -> Self {
                Self(name.into())
            }

            /// The name as typed.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Name of a pool: 1 to 64 bytes of `a-z 0-9 - _ .`.
    PoolName
}
name! {
    /// Name of a backend, unique in its pool: as typed, else `POOL-1`, `POOL-2`, …
    BackendName
}
name! {
    /// What a classifier says and routes match: 1 to 64 bytes of `a-z 0-9 - _`.
    Label
}
name! {
    /// Who pays: 1 to 128 bytes. `anonymous` in open mode.
    Tenant
}
name! {
    /// Name of a plugin slot, unique in the config: 1 to 64 bytes of `a-z 0-9 -`.
    SlotName
}

/// A value that must never be printed: its `Debug` is `[redacted]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret value.
    pub(crate) fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that must send it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
