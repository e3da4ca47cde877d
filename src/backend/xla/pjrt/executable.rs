//! Compiled programs: what they say of themselves, and running them.

// Foreign calls, by the rules of `api`. Beside them: a compiled program and its loaded form are destroyed once, and keep the plugin
// or the client alive until then.
#![allow(unsafe_code)]
// Half of a file's types come from there, by names that no other place has.
#![allow(clippy::wildcard_imports)]

use std::ops::Deref;
use std::ptr;

use crate::backend::xla::pjrt::api::{MOST_LISTED, Padded, Plugin, Value, call, destroy, list, named_values, padded};
use crate::backend::xla::pjrt::buffer::{Buffer, Event};
use crate::backend::xla::pjrt::client::Client;
use crate::backend::xla::pjrt::options::Options;
use crate::backend::xla::pjrt::sys::*;
use crate::backend::xla::pjrt::{PjrtError, Result};
use crate::domain::hex;

/// More outputs than any program has.
const MOST_OUTPUTS: usize = 1 << 16;
/// A serialised program is not larger, bytes.
const MOST_CODE: usize = 1 << 31;

/// A StableHLO program (text, bytecode or portable artifact) as plugins take it; points to `code`.
pub fn program(code: &[u8]) -> Box<Padded<PJRT_Program>> {
    const FORMAT: &str = "mlir";
    let mut program = padded::<PJRT_Program>();
    // Plugins only read it, whatever the header's type says.
    program.args.code = code.as_ptr().cast_mut().cast();
    program.args.code_size = code.len();
    program.args.format = FORMAT.as_ptr().cast();
    program.args.format_size = FORMAT.len();
    program
}

/// What a compiled program takes of a device's memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Arguments.
    pub arguments: i64,
    /// Results.
    pub outputs: i64,
    /// Results that lie in arguments.
    pub aliased: i64,
    /// In between.
    pub temporary: i64,
    /// The compiler's own figure of the most at one time; some leave parts of it out.
    pub peak: i64,
}

impl Memory {
    /// Everything that one run needs at one time, bytes: the parts together, or the compiler's peak where that is more.
    #[must_use]
    pub fn total(&self) -> i64 {
        (self.arguments + self.outputs + self.temporary - self.aliased).max(self.peak)
    }
}

/// A compiled program, which needs no device.
pub struct Compiled {
    plugin: Plugin,
    raw: *mut PJRT_Executable,
}

// SAFETY: compiled programs may be asked on any thread (PJRT's contract).
unsafe impl Send for Compiled {}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compiled")
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        destroy!(self.plugin, PJRT_Executable_Destroy, PJRT_Executable_Destroy_Args, executable, self.raw);
    }
}

impl Compiled {
    /// Takes what a plugin gave.
    pub(super) fn of(plugin: &Plugin, raw: *mut PJRT_Executable) -> Result<Self> {
        if raw.is_null() {
            return Err(PjrtError::Contract("it gives no program".to_owned()));
        }
        Ok(Self { plugin: plugin.clone(), raw })
    }

    /// How many results a run has.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn outputs(&self) -> Result<usize> {
        let mut arguments = padded::<PJRT_Executable_NumOutputs_Args>();
        arguments.args.executable = self.raw;
        call!(self.plugin, PJRT_Executable_NumOutputs, arguments)?;
        match arguments.args.num_outputs {
            count if count <= MOST_OUTPUTS => Ok(count),
            count => Err(PjrtError::Contract(format!("a program with {count} outputs"))),
        }
    }

    /// Machine code, bytes; 0 where the compiler does not count.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn code_size(&self) -> Result<i64> {
        let mut arguments = padded::<PJRT_Executable_SizeOfGeneratedCodeInBytes_Args>();
        arguments.args.executable = self.raw;
        call!(self.plugin, PJRT_Executable_SizeOfGeneratedCodeInBytes, arguments)?;
        Ok(arguments.args.size_in_bytes)
    }

    /// The compiler's mark of this program: some give text, some raw bytes, which are told in hexadecimal.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn fingerprint(&self) -> Result<String> {
        let mut arguments = padded::<PJRT_Executable_Fingerprint_Args>();
        arguments.args.executable = self.raw;
        call!(self.plugin, PJRT_Executable_Fingerprint, arguments)?;
        let (start, bytes) = (arguments.args.executable_fingerprint, arguments.args.executable_fingerprint_size);
        // SAFETY: told of this program just now.
        let mark = unsafe { list(start.cast::<u8>(), bytes, MOST_LISTED) }?;
        let printable = mark.iter().all(u8::is_ascii_graphic);
        Ok(if printable { String::from_utf8_lossy(mark).into_owned() } else { hex(mark) })
    }

    /// What the compiler thinks that it costs: `flops`, `bytes accessed` and others by XLA's names.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn costs(&self) -> Result<Vec<(String, Value)>> {
        let mut arguments = padded::<PJRT_Executable_GetCostAnalysis_Args>();
        arguments.args.executable = self.raw;
        call!(self.plugin, PJRT_Executable_GetCostAnalysis, arguments)?;
        // SAFETY: told of this program just now.
        unsafe { named_values(arguments.args.properties, arguments.args.num_properties) }
    }

    /// What it takes of a device's memory.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn memory(&self) -> Result<Memory> {
        let mut arguments = padded::<PJRT_Executable_GetCompiledMemoryStats_Args>();
        arguments.args.executable = self.raw;
        call!(self.plugin, PJRT_Executable_GetCompiledMemoryStats, arguments)?;
        let told = &arguments.args;
        Ok(Memory {
            arguments: told.argument_size_in_bytes,
            outputs: told.output_size_in_bytes,
            aliased: told.alias_size_in_bytes,
            temporary: told.temp_size_in_bytes,
            peak: told.peak_memory_in_bytes,
        })
    }

    /// As bytes that [`Client::restore`] takes.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let mut arguments = padded::<PJRT_Executable_Serialize_Args>();
        arguments.args.executable = self.raw;
        call!(self.plugin, PJRT_Executable_Serialize, arguments)?;
        let told = &arguments.args;
        // SAFETY: told just now; the bytes live until they are freed below.
        let bytes = unsafe { list(told.serialized_bytes.cast::<u8>(), told.serialized_bytes_size, MOST_CODE) };
        let bytes = bytes.map(<[u8]>::to_vec);
        if let Some(free) = told.serialized_executable_deleter {
            // SAFETY: given for exactly this, and called once, after the bytes were copied.
            unsafe { free(told.serialized_executable) };
        }
        bytes
    }
}

/// A program on a client's devices. Beside running, it tells what [`Compiled`] tells.
pub struct Executable {
    // Goes before the client, of whose devices it knows; fields go in this order.
    compiled: Compiled,
    client: Client,
    raw: *mut PJRT_LoadedExecutable,
    outputs: usize,
}

// SAFETY: programs may be run from any thread (PJRT's contract).
unsafe impl Send for Executable {}

impl std::fmt::Debug for Executable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executable({} outputs)", self.outputs)
    }
}

impl Deref for Executable {
    type Target = Compiled;

    fn deref(&self) -> &Compiled {
        &self.compiled
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        destroy!(
            self.client.plugin(),
            PJRT_LoadedExecutable_Destroy,
            PJRT_LoadedExecutable_Destroy_Args,
            executable,
            self.raw
        );
    }
}

impl Client {
    /// Compiles a StableHLO program: text, bytecode or portable artifact.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn compile(&self, code: &[u8], options: &Options) -> Result<Executable> {
        let options = options.encoded();
        let program = program(code);
        let mut arguments = padded::<PJRT_Client_Compile_Args>();
        arguments.args.client = self.raw();
        arguments.args.program = &raw const program.args;
        arguments.args.compile_options = options.as_ptr().cast();
        arguments.args.compile_options_size = options.len();
        call!(self.plugin(), PJRT_Client_Compile, arguments)?;
        Executable::of(self, arguments.args.executable)
    }

    /// Loads what [`Compiled::serialize`] gave.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn restore(&self, bytes: &[u8]) -> Result<Executable> {
        let mut arguments = padded::<PJRT_Executable_DeserializeAndLoad_Args>();
        arguments.args.client = self.raw();
        arguments.args.serialized_executable = bytes.as_ptr().cast();
        arguments.args.serialized_executable_size = bytes.len();
        call!(self.plugin(), PJRT_Executable_DeserializeAndLoad, arguments)?;
        Executable::of(self, arguments.args.loaded_executable)
    }
}

impl Executable {
    fn of(client: &Client, raw: *mut PJRT_LoadedExecutable) -> Result<Self> {
        if raw.is_null() {
            return Err(PjrtError::Contract("it gives no program".to_owned()));
        }
        let mut arguments = padded::<PJRT_LoadedExecutable_GetExecutable_Args>();
        arguments.args.loaded_executable = raw;
        let compiled = call!(client.plugin(), PJRT_LoadedExecutable_GetExecutable, arguments)
            .and_then(|()| Compiled::of(client.plugin(), arguments.args.executable));
        let known = compiled.and_then(|compiled| Ok((compiled.outputs()?, compiled)));
        match known {
            Ok((outputs, compiled)) => Ok(Self { client: client.clone(), raw, compiled, outputs }),
            Err(error) => {
                destroy!(
                    client.plugin(),
                    PJRT_LoadedExecutable_Destroy,
                    PJRT_LoadedExecutable_Destroy_Args,
                    executable,
                    raw
                );
                Err(error)
            }
        }
    }

    /// Starts a run: `arguments` of each device, of which the first `donated` may be taken over where the program says so (their
    /// buffers are then used up). Returns the results of each device at once, and an event a device for when they are there.
    ///
    /// # Errors
    /// When the arguments do not fit the program, or the plugin refuses.
    pub fn launch(&self, arguments: &[Vec<&Buffer>], donated: usize) -> Result<(Vec<Vec<Buffer>>, Vec<Event>)> {
        let plugin = self.client.plugin();
        let count = arguments.first().map_or(0, Vec::len);
        if arguments.is_empty() || arguments.iter().any(|list| list.len() != count) {
            return Err(PjrtError::Argument("every device takes as many arguments as the others".to_owned()));
        }
        if arguments.iter().flatten().any(|buffer| !buffer.belongs_to(&self.client)) {
            return Err(PjrtError::Argument("a buffer of another client".to_owned()));
        }
        let kept: Vec<i64> = (donated as i64..count as i64).collect();
        let mut options = padded::<PJRT_ExecuteOptions>();
        options.args.non_donatable_input_indices = kept.as_ptr();
        options.args.num_non_donatable_input_indices = kept.len();
        let lists: Vec<Vec<*mut PJRT_Buffer>> =
            arguments.iter().map(|list| list.iter().map(|buffer| buffer.raw()).collect()).collect();
        let starts: Vec<*const *mut PJRT_Buffer> = lists.iter().map(Vec::as_ptr).collect();
        let mut results = vec![vec![ptr::null_mut::<PJRT_Buffer>(); self.outputs]; arguments.len()];
        let result_starts: Vec<*mut *mut PJRT_Buffer> = results.iter_mut().map(Vec::as_mut_ptr).collect();
        let mut events = vec![ptr::null_mut::<PJRT_Event>(); arguments.len()];
        let mut execute = padded::<PJRT_LoadedExecutable_Execute_Args>();
        execute.args.executable = self.raw;
        execute.args.options = &raw mut options.args;
        execute.args.argument_lists = starts.as_ptr();
        execute.args.num_devices = arguments.len();
        execute.args.num_args = count;
        execute.args.output_lists = result_starts.as_ptr();
        execute.args.device_complete_events = events.as_mut_ptr();
        call!(plugin, PJRT_LoadedExecutable_Execute, execute)?;
        let events = events.into_iter().map(|raw| Event::of(&self.client, raw)).collect();
        // All are owned before one that is none ends this: those after it would never be freed.
        let own = |raw| Buffer::of(&self.client, raw);
        let results: Vec<Vec<Result<Buffer>>> =
            results.into_iter().map(|list| list.into_iter().map(own).collect()).collect();
        Ok((results.into_iter().map(|list| list.into_iter().collect()).collect::<Result<_>>()?, events))
    }
}
