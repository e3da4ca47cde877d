//! What a compilation is told: XLA's `CompileOptionsProto` (`xla/pjrt/proto/compile_options.proto`), of which a harness needs a few
//! fields, written by hand in protobuf's wire format.

use crate::backend::xla::pjrt::{PjrtError, Result};
use crate::backend::xla::wire::{put_bytes, put_double, put_number};

/// A value of a flag of XLA.
#[derive(Debug, Clone, PartialEq)]
pub enum Flag {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Anything else.
    Text(String),
}

impl Flag {
    fn read(text: &str) -> Self {
        text.parse()
            .map(Self::Bool)
            .or_else(|_| text.parse().map(Self::Int))
            .or_else(|_| text.parse().map(Self::Float))
            .unwrap_or_else(|_| Self::Text(text.to_owned()))
    }
}

/// Options of one compilation.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Devices that run the program, each with arguments of its own.
    pub replicas: u32,
    /// Flags of XLA by name, without dashes.
    pub flags: Vec<(String, Flag)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { replicas: 1, flags: Vec::new() }
    }
}

impl Options {
    /// Flags as people write them: `--xla_gpu_autotune_level=0 xla_cpu_multi_thread_eigen=false`; a name alone is true.
    ///
    /// # Errors
    /// When a word is no flag of XLA.
    pub fn flags_of(words: &str) -> Result<Vec<(String, Flag)>> {
        words
            .split_whitespace()
            .map(|word| {
                let (name, value) =
                    word.trim_start_matches('-').split_once('=').unwrap_or((word.trim_start_matches('-'), "true"));
                let good = name.starts_with("xla_") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if good {
                    Ok((name.to_owned(), Flag::read(value)))
                } else {
                    Err(PjrtError::Argument(format!("`{word}` is no flag of XLA: as in `xla_gpu_autotune_level=0`")))
                }
            })
            .collect()
    }

    /// As a plugin takes them.
    pub(super) fn encoded(&self) -> Vec<u8> {
        // ExecutableBuildOptionsProto: device_ordinal, num_replicas, num_partitions.
        let mut build = Vec::new();
        put_number(&mut build, 1, u64::MAX);
        put_number(&mut build, 4, u64::from(self.replicas));
        put_number(&mut build, 5, 1);
        let mut options = Vec::new();
        put_bytes(&mut options, 3, &build);
        for (name, flag) in &self.flags {
            // OptionOverrideProto, one of string, bool, int64 and double.
            let mut value = Vec::new();
            match flag {
                Flag::Text(text) => put_bytes(&mut value, 1, text.as_bytes()),
                Flag::Bool(flag) => put_number(&mut value, 2, u64::from(*flag)),
                Flag::Int(int) => put_number(&mut value, 3, *int as u64),
                Flag::Float(float) => put_double(&mut value, 4, *float),
            }
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, name.as_bytes());
            put_bytes(&mut entry, 2, &value);
            put_bytes(&mut options, 7, &entry);
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_people_write_them() {
        let flags = Options::flags_of("--xla_a=true xla_b=3  xla_c=0.5 xla_d=x xla_e").expect("flags");
        let names: Vec<&str> = flags.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["xla_a", "xla_b", "xla_c", "xla_d", "xla_e"]);
        let values: Vec<Flag> = flags.into_iter().map(|(_, flag)| flag).collect();
        assert_eq!(
            values,
            [Flag::Bool(true), Flag::Int(3), Flag::Float(0.5), Flag::Text("x".to_owned()), Flag::Bool(true)]
        );
        assert!(Options::flags_of("threads=3").is_err());
    }

    #[test]
    fn the_wire_format_is_protobuf_s() {
        // device_ordinal = -1 takes ten bytes; replicas 1, partitions 1.
        let plain = Options::default().encoded();
        assert_eq!(plain[..3], [0x1a, 15, 0x08]);
        assert_eq!(plain[plain.len() - 4..], [0x20, 1, 0x28, 1]);
        let flagged = Options { flags: vec![("xla_a".to_owned(), Flag::Bool(true))], ..Options::default() }.encoded();
        assert_eq!(flagged[plain.len()..], [0x3a, 11, 0x0a, 5, b'x', b'l', b'a', b'_', b'a', 0x12, 2, 0x10, 1]);
    }
}
