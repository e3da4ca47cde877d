//! The binding to PJRT and its tests, by themselves: Miri checks them in seconds, where building all of regrade for it takes minutes.
//! What the binding names of regrade stands in its place here. Must not have a test of its own.
#![allow(dead_code, unused_imports, reason = "all of it has users in regrade")]

#[path = "../../src/backend/program/element.rs"]
pub mod element;
#[path = "../../src/backend/xla/pjrt/mod.rs"]
pub mod pjrt;
#[path = "../../src/backend/xla/wire.rs"]
pub mod wire;

mod backend {
    pub mod program {
        pub use crate::element::Element;
    }
    pub mod xla {
        pub use crate::{pjrt, wire};
    }
}

mod domain {
    /// As regrade's.
    pub fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}
