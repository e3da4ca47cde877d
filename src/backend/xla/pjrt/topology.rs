//! Devices that are not here: compilers know them by name, and compile for them.

// Foreign calls, by the rules of `api`. Beside them: a topology is destroyed once.
#![allow(unsafe_code)]
// Half of a file's types come from there, by names that no other place has.
#![allow(clippy::wildcard_imports)]

use crate::backend::xla::pjrt::api::{MOST_LISTED, Plugin, Value, call, destroy, list, padded, to_named};
use crate::backend::xla::pjrt::client::Description;
use crate::backend::xla::pjrt::executable::{Compiled, program};
use crate::backend::xla::pjrt::options::Options;
use crate::backend::xla::pjrt::sys::*;
use crate::backend::xla::pjrt::{PjrtError, Result};

/// Devices and how they are connected.
pub struct Topology {
    plugin: Plugin,
    raw: *mut PJRT_TopologyDescription,
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Topology")
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        destroy!(
            self.plugin,
            PJRT_TopologyDescription_Destroy,
            PJRT_TopologyDescription_Destroy_Args,
            topology,
            self.raw
        );
    }
}

impl Plugin {
    /// The devices of this name: `v5e:2x2`.
    ///
    /// # Errors
    /// When the plugin knows no such devices.
    pub fn topology(&self, name: &str, options: &[(String, Value)]) -> Result<Topology> {
        let named = to_named(options);
        let mut arguments = padded::<PJRT_TopologyDescription_Create_Args>();
        arguments.args.topology_name = name.as_ptr().cast();
        arguments.args.topology_name_size = name.len();
        arguments.args.create_options = named.as_ptr();
        arguments.args.num_options = named.len();
        call!(self, PJRT_TopologyDescription_Create, arguments)?;
        if arguments.args.topology.is_null() {
            return Err(PjrtError::Contract("it gives no topology".to_owned()));
        }
        Ok(Topology { plugin: self.clone(), raw: arguments.args.topology })
    }
}

impl Topology {
    /// Its devices.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn devices(&self) -> Result<Vec<Description>> {
        let mut arguments = padded::<PJRT_TopologyDescription_GetDeviceDescriptions_Args>();
        arguments.args.topology = self.raw;
        call!(self.plugin, PJRT_TopologyDescription_GetDeviceDescriptions, arguments)?;
        // SAFETY: told of this topology just now.
        unsafe { list(arguments.args.descriptions, arguments.args.num_descriptions, MOST_LISTED) }?
            .iter()
            .map(|raw| self.plugin.described(*raw))
            .collect()
    }

    /// Compiles for them. The result tells and cannot be run.
    ///
    /// # Errors
    /// When the program does not compile.
    pub fn compile(&self, code: &[u8], options: &Options) -> Result<Compiled> {
        let options = options.encoded();
        let program = program(code);
        let mut arguments = padded::<PJRT_Compile_Args>();
        arguments.args.topology = self.raw;
        arguments.args.program = &raw const program.args;
        arguments.args.compile_options = options.as_ptr().cast();
        arguments.args.compile_options_size = options.len();
        call!(self.plugin, PJRT_Compile, arguments)?;
        Compiled::of(&self.plugin, arguments.args.executable)
    }
}
