//! A run: all launches of a suite at a commit on a testbed, and the circumstances.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Case, Outcome, RunId, SessionId, SuiteInfo, Testbed};

/// How far a run got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Measuring now, or its process died without a word.
    Running,
    /// Every planned launch was made.
    Complete,
    /// Ended early; what was measured is kept and it can be resumed.
    Interrupted,
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
        })
    }
}

/// A case as a run saw it: the definition it was measured under, and why it was skipped if it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseRecord {
    /// The definition.
    pub case: Case,
    /// Set for cases that were not attempted.
    pub skipped: Option<Outcome>,
}

/// Which side of a paired session a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArmSide {
    /// What the change is measured against.
    Base,
    /// The change.
    Head,
    /// Base against itself, through the same coin and code: launches `2i` and `2i + 1` are a pair.
    Control,
}

impl fmt::Display for ArmSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Base => "base",
            Self::Head => "head",
            Self::Control => "control",
        })
    }
}

/// The place of a run in a paired session: launch `i` of the base arm and launch `i` of the head arm are pair `i`, and
/// whichever has the lower position ran first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Arm {
    /// The session.
    pub session: SessionId,
    /// Which side.
    pub side: ArmSide,
}

/// The header of a run. Launches are stored beside it, each in its own transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Unique for ever.
    pub id: RunId,
    /// The suite, with its text.
    pub suite: SuiteInfo,
    /// Full commit hash; absent outside a git repository.
    pub commit: Option<String>,
    /// Branch name; absent on a detached head that no environment explains.
    pub branch: Option<String>,
    /// Whether the work tree had uncommitted changes.
    pub dirty: bool,
    /// Where it was measured.
    pub testbed: Testbed,
    /// Compiler and engine versions.
    pub toolchain: String,
    /// Version of regrade that measured.
    pub regrade_version: String,
    /// The command line as typed, secrets redacted.
    pub command_line: String,
    /// What the launch order was drawn from.
    pub seed: u64,
    /// When it began.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When it ended.
    #[schemars(with = "Option<String>")]
    pub finished: Option<Timestamp>,
    /// How far it got.
    pub status: RunStatus,
    /// Set when the numbers are not of the workloads as written (`--inject`): the reason. Such a run is never a
    /// baseline and never published.
    pub synthetic: Option<String>,
    /// Measured by a debug build: never a baseline.
    pub debug_build: bool,
    /// Set when the run is one arm of a paired session: never a baseline, because its launches were made in pairs and
    /// only of suspects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arm>,
    /// Every case of the plan.
    pub cases: Vec<CaseRecord>,
}

impl Run {
    /// Why this run may not serve as a base, if it may not.
    #[must_use]
    pub fn unfit_as_base(&self) -> Option<String> {
        if let Some(what) = &self.synthetic {
            return Some(format!("the run is synthetic ({what})"));
        }
        if self.debug_build {
            return Some("the run was measured by a debug build; build with --release".to_owned());
        }
        if let Some(arm) = &self.arm {
            return Some(format!("the run is the {} arm of a paired session", arm.side));
        }
        None
    }
}
