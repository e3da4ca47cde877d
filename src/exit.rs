//! The exit-code contract as a type. The README's table and `--help` are tested against it.
//!
//! Must not know why a command ended: it only names the endings.

use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// No gated regression.
    Pass = 0,
    /// A regression at or above the gate, or a missed target.
    Regression = 1,
    /// Usage or configuration error.
    Usage = 2,
    /// Inconclusive where a decision is demanded: by the caller, or by a command that exists to make one (`bisect` found no
    /// commit, `calibrate` did not see the gate trip).
    Inconclusive = 3,
    /// A case failed: crash, time-out, out of memory, wrong numbers.
    CaseFailed = 4,
    /// Nothing was measured, or nothing was comparable.
    Nothing = 5,
    /// Environment or I/O failure.
    Environment = 6,
}

impl Exit {
    /// All, in order.
    pub const ALL: [Self; 7] = [
        Self::Pass,
        Self::Regression,
        Self::Usage,
        Self::Inconclusive,
        Self::CaseFailed,
        Self::Nothing,
        Self::Environment,
    ];

    /// The number the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// One line for `--help` and the README.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Pass => "no gated regression",
            Self::Regression => "regression at or above the gate, or a missed target",
            Self::Usage => "usage or configuration error",
            Self::Inconclusive => {
                "inconclusive where a decision is demanded (--require-decision; always of bisect and calibrate)"
            }
            Self::CaseFailed => "a case failed (crash, time-out, out of memory, wrong numbers)",
            Self::Nothing => "nothing was measured or nothing was comparable",
            Self::Environment => "environment or I/O failure",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
