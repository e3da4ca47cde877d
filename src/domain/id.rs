//! Identifiers. Run and launch ids are UUIDv7: they sort by creation time and never collide when databases merge.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(#[schemars(with = "String")] pub Uuid);

        impl $name {
            /// A fresh id whose leading bits are the current time.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// All launches of a suite at a commit on a testbed.
    RunId
);
uuid_id!(
    /// One sitting in which pairs of base and head are measured; its arms are runs.
    SessionId
);
uuid_id!(
    /// One worker process.
    LaunchId
);

/// The stable name of one concrete combination: `benchmark/axis=value/axis=value@backend`.
///
/// Stable means: the same suite text gives the same ids on every machine; adding a benchmark or an axis value
/// changes no other id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CaseId(pub String);

impl CaseId {
    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for CaseId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
