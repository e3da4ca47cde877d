//! The only maker of verdicts.
