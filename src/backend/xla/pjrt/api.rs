//! The table of functions of a plugin, argument structs, errors and named values.

// Foreign calls. What they rely on: an `Api` is a copy, no longer than the plugin's own table, of functions with the types of the
// header, in a library that is never unloaded; and argument structs are whole, zeroed where nothing is set, with their size told.
#![allow(unsafe_code)]
// Half of a file's types come from there, by names that no other place has.
#![allow(clippy::wildcard_imports)]
// The header's names.
#![allow(non_upper_case_globals)]

use std::ffi::c_char;
use std::mem::{ManuallyDrop, offset_of, size_of};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use crate::backend::xla::pjrt::sys::*;
use crate::backend::xla::pjrt::{PjrtError, Result};

/// Room after an argument struct, for fields that later headers add: 32 words.
const ROOM: usize = 32;

/// A list that a plugin gives is not longer than this: beyond it its count is no count.
pub const MOST_LISTED: usize = 1 << 20;
/// Nor a text.
const MOST_TEXT: usize = 1 << 26;

/// An argument struct with room after it.
#[repr(C)]
pub struct Padded<T> {
    /// The struct of our header.
    pub args: T,
    room: [u64; ROOM],
}

/// A struct that tells its size.
///
/// # Safety
/// All zeros are a value of it.
pub unsafe trait Tells {
    /// Sets the size, bytes.
    fn set_size(&mut self, bytes: usize);
}

macro_rules! argument_structs {
    ($($name:ident),* $(,)?) => {
        // SAFETY: numbers, pointers and functions that may be missing.
        $(unsafe impl Tells for $name {
            fn set_size(&mut self, bytes: usize) {
                self.struct_size = bytes;
            }
        })*
    };
}

argument_structs!(
    PJRT_Buffer_Destroy_Args,
    PJRT_Buffer_Dimensions_Args,
    PJRT_Buffer_ElementType_Args,
    PJRT_Buffer_ReadyEvent_Args,
    PJRT_Buffer_ToHostBuffer_Args,
    PJRT_Client_AddressableDevices_Args,
    PJRT_Client_BufferFromHostBuffer_Args,
    PJRT_Client_Compile_Args,
    PJRT_Client_Create_Args,
    PJRT_Client_Destroy_Args,
    PJRT_Client_PlatformName_Args,
    PJRT_Client_PlatformVersion_Args,
    PJRT_Compile_Args,
    PJRT_DeviceDescription_Attributes_Args,
    PJRT_DeviceDescription_Id_Args,
    PJRT_DeviceDescription_Kind_Args,
    PJRT_Device_GetDescription_Args,
    PJRT_Device_LocalHardwareId_Args,
    PJRT_Device_MemoryStats_Args,
    PJRT_Error_Destroy_Args,
    PJRT_Error_GetCode_Args,
    PJRT_Error_Message_Args,
    PJRT_Event_Await_Args,
    PJRT_Event_Destroy_Args,
    PJRT_ExecuteOptions,
    PJRT_Executable_DeserializeAndLoad_Args,
    PJRT_Executable_Destroy_Args,
    PJRT_Executable_Fingerprint_Args,
    PJRT_Executable_GetCompiledMemoryStats_Args,
    PJRT_Executable_GetCostAnalysis_Args,
    PJRT_Executable_NumOutputs_Args,
    PJRT_Executable_Serialize_Args,
    PJRT_Executable_SizeOfGeneratedCodeInBytes_Args,
    PJRT_LoadedExecutable_Destroy_Args,
    PJRT_LoadedExecutable_Execute_Args,
    PJRT_LoadedExecutable_GetExecutable_Args,
    PJRT_Plugin_Attributes_Args,
    PJRT_Plugin_Initialize_Args,
    PJRT_Program,
    PJRT_TopologyDescription_Create_Args,
    PJRT_TopologyDescription_Destroy_Args,
    PJRT_TopologyDescription_GetDeviceDescriptions_Args,
);

/// An argument struct with nothing set.
pub fn padded<T: Tells>() -> Box<Padded<T>> {
    // Zeroed where it stays: a value that is moved leaves behind what lies between its fields and after the last, where a later
    // header may have one.
    let mut padded = Box::<Padded<T>>::new_uninit();
    // SAFETY: all of it is written, and zeros are a value of `T` and of the room.
    let mut padded = unsafe {
        padded.as_mut_ptr().write_bytes(0, 1);
        padded.assume_init()
    };
    padded.args.set_size(size_of::<Padded<T>>());
    padded
}

/// Calls a function of a plugin's table; its error, or that it has no such function.
macro_rules! call {
    ($plugin:expr, $function:ident, $arguments:expr) => {{
        let plugin: &$crate::backend::xla::pjrt::api::Plugin = &$plugin;
        match plugin.table().$function {
            None => Err($crate::backend::xla::pjrt::PjrtError::Missing(stringify!($function))),
            Some(function) => {
                // SAFETY: the function has the header's type for these arguments, which are whole, tell their size, and outlive
                // the call, as does everything that the caller made them point to.
                let error = unsafe { function(&raw mut $arguments.args) };
                plugin.checked(stringify!($function), error)
            }
        }
    }};
}

/// Destroys an object of a plugin. Its error has nowhere to go: the object is gone for us either way.
macro_rules! destroy {
    ($plugin:expr, $function:ident, $arguments:ident, $field:ident, $object:expr) => {{
        let mut arguments = $crate::backend::xla::pjrt::api::padded::<$arguments>();
        arguments.args.$field = $object;
        let _ = $crate::backend::xla::pjrt::api::call!($plugin, $function, arguments);
    }};
}

pub(super) use {call, destroy};

struct Api {
    table: PJRT_Api,
    version: (i32, i32),
}

// SAFETY: the table is a copy of function pointers that is only read; the functions may be called from any thread (PJRT's contract).
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// A loaded plugin.
#[derive(Clone)]
pub struct Plugin(Arc<Api>);

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({}.{})", self.0.version.0, self.0.version.1)
    }
}

impl Plugin {
    /// Opens and initialises a plugin. Runs the library's own code: whoever names a path trusts it.
    ///
    /// # Errors
    /// As [`Self::open`], or when it cannot be initialised.
    pub fn load(path: &Path) -> Result<Self> {
        Self::open(path)?.initialised()
    }

    /// Wanted by the interface before any other call.
    pub(super) fn initialised(self) -> Result<Self> {
        let mut arguments = padded::<PJRT_Plugin_Initialize_Args>();
        call!(self, PJRT_Plugin_Initialize, arguments)?;
        Ok(self)
    }

    /// Opens a plugin without initialising it: good for what it says of itself, and for nothing else.
    ///
    /// # Errors
    /// When it cannot be loaded, is no plugin, or speaks another major version.
    pub fn open(path: &Path) -> Result<Self> {
        let words = |error: libloading::Error| {
            // Its text ends with the loader's own sentence, which names what is missing.
            let mut text = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                text = format!("{text}: {source}");
            }
            PjrtError::Load(text)
        };
        // SAFETY: runs the library's constructors; the caller trusts the path.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(words)?;
        // Never unloaded: plugins start threads and register state of the process.
        let library = ManuallyDrop::new(library);
        // SAFETY: a library with this symbol is a plugin, and the symbol has this type (pjrt_c_api.h).
        let get: Symbol<unsafe extern "C" fn() -> *const PJRT_Api> =
            unsafe { library.get(b"GetPjrtApi\0") }.map_err(|_| {
                PjrtError::Contract(format!("{} has no `GetPjrtApi`: it is no PJRT plugin", path.display()))
            })?;
        // SAFETY: takes nothing and gives a table that stays as long as the library, or null.
        let theirs = unsafe { get() };
        // SAFETY: as above.
        unsafe { Self::from_table(theirs) }
    }

    /// A plugin by its table of functions, which is copied.
    ///
    /// # Safety
    /// `theirs` is null, or a table that begins with its size, which can be read wholly, whose functions have the header's types and
    /// stay for good.
    ///
    /// # Errors
    /// When it is none, or of another major version.
    pub(super) unsafe fn from_table(theirs: *const PJRT_Api) -> Result<Self> {
        if theirs.is_null() {
            return Err(PjrtError::Contract("it gives no table of functions".to_owned()));
        }
        // SAFETY: every table begins with its size, whatever its version.
        let size = unsafe { (*theirs).struct_size };
        if size < offset_of!(PJRT_Api, PJRT_Error_Destroy) || size > MOST_TEXT {
            return Err(PjrtError::Contract(format!("its table of functions is {size} bytes long")));
        }
        // A part of a function's address is no function.
        let whole = size - size % size_of::<usize>();
        let mut table = PJRT_Api::default();
        // SAFETY: no more is copied than either has; what the plugin lacks stays null, which is `None`.
        unsafe {
            ptr::copy_nonoverlapping(
                theirs.cast::<u8>(),
                (&raw mut table).cast::<u8>(),
                whole.min(size_of::<PJRT_Api>()),
            );
        }
        let version = (table.pjrt_api_version.major_version, table.pjrt_api_version.minor_version);
        if i64::from(version.0) != i64::from(PJRT_API_MAJOR) {
            return Err(PjrtError::Contract(format!(
                "it speaks version {}.{} of the interface, this program {PJRT_API_MAJOR}.{PJRT_API_MINOR}",
                version.0, version.1
            )));
        }
        Ok(Self(Arc::new(Api { table, version })))
    }

    pub(super) fn table(&self) -> &PJRT_Api {
        &self.0.table
    }

    /// Version of the interface that the plugin was built with, major and minor.
    #[must_use]
    pub fn version(&self) -> (i32, i32) {
        self.0.version
    }

    /// What the plugin says of itself: `xla_version`, `stablehlo_current_version` and the like; nothing where it says nothing.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn attributes(&self) -> Result<Vec<(String, Value)>> {
        let mut arguments = padded::<PJRT_Plugin_Attributes_Args>();
        call!(self, PJRT_Plugin_Attributes, arguments)?;
        // SAFETY: told of this plugin just now, which is never unloaded.
        unsafe { named_values(arguments.args.attributes, arguments.args.num_attributes) }
    }

    /// Turns what a function returned into a result, and frees it.
    pub(super) fn checked(&self, call: &'static str, error: *mut PJRT_Error) -> Result<()> {
        if error.is_null() {
            return Ok(());
        }
        let mut message = Ok(String::new());
        let mut code = 2;
        if let Some(function) = self.0.table.PJRT_Error_Message {
            let mut arguments = padded::<PJRT_Error_Message_Args>();
            arguments.args.error = error;
            // SAFETY: the error is alive, and the text that it gives belongs to it.
            unsafe { function(&raw mut arguments.args) };
            // SAFETY: as above.
            message = unsafe { text(arguments.args.message, arguments.args.message_size) };
        }
        if let Some(function) = self.0.table.PJRT_Error_GetCode {
            let mut arguments = padded::<PJRT_Error_GetCode_Args>();
            arguments.args.error = error;
            // SAFETY: the error is alive; an error of asking for its code is freed like any other.
            let second = unsafe { function(&raw mut arguments.args) };
            code = arguments.args.code;
            self.free(second);
        }
        self.free(error);
        Err(PjrtError::Plugin { call, code, message: brief(&message?) })
    }

    fn free(&self, error: *mut PJRT_Error) {
        if let (false, Some(function)) = (error.is_null(), self.0.table.PJRT_Error_Destroy) {
            let mut arguments = padded::<PJRT_Error_Destroy_Args>();
            arguments.args.error = error;
            // SAFETY: an error that the plugin gave, freed once.
            unsafe { function(&raw mut arguments.args) };
        }
    }
}

/// The first lines of a plugin's words: XLA adds whole programs and stacks to some.
fn brief(message: &str) -> String {
    const LINES: usize = 4;
    const CHARACTERS: usize = 600;
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).take(LINES).collect();
    lines.join(" ").chars().take(CHARACTERS).collect()
}

/// A text that a plugin gives with its length.
///
/// # Safety
/// As for [`list`].
pub unsafe fn text(start: *const c_char, bytes: usize) -> Result<String> {
    // SAFETY: promised by the caller.
    let bytes = unsafe { list(start.cast::<u8>(), bytes, MOST_TEXT) }?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// A list that a plugin gives with its length; empty where it gives none.
///
/// # Safety
/// Start and length are what a plugin told of an object that is alive. The list lives as long as that object, so it is copied before
/// anything else happens.
pub unsafe fn list<'a, T>(start: *const T, count: usize, most: usize) -> Result<&'a [T]> {
    if start.is_null() || count == 0 {
        return Ok(&[]);
    }
    if count > most || !start.is_aligned() {
        return Err(PjrtError::Contract(format!("a list of {count} entries")));
    }
    // SAFETY: the plugin says that so many entries begin there, which is as much as can be known; the count is plausible and the
    // address aligned.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// A truth that a plugin wrote. Rust knows two bytes that are one; C writes what it has.
///
/// # Safety
/// `written` points to a byte that was written.
pub unsafe fn truth(written: *const bool) -> bool {
    // SAFETY: the caller's.
    unsafe { written.cast::<u8>().read() != 0 }
}

/// A value of an option or attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Several.
    Ints(Vec<i64>),
    /// A number.
    Float(f32),
    /// Yes or no.
    Bool(bool),
    /// Of a kind that the header does not have.
    Unknown,
}

impl Value {
    /// As a number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(f64::from(*value)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Ints(values) => {
                let values: Vec<String> = values.iter().map(i64::to_string).collect();
                values.join(".").fmt(f)
            }
            Self::Float(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Unknown => "?".fmt(f),
        }
    }
}

/// Named values that a plugin gives.
///
/// # Safety
/// As for [`list`].
pub unsafe fn named_values(start: *const PJRT_NamedValue, count: usize) -> Result<Vec<(String, Value)>> {
    // SAFETY: promised by the caller.
    unsafe { list(start, count, MOST_LISTED) }?.iter().map(named_value).collect()
}

fn named_value(named: &PJRT_NamedValue) -> Result<(String, Value)> {
    let held = &named.__bindgen_anon_1;
    let value = match named.type_ {
        PJRT_NamedValue_kString => {
            // SAFETY: the tag says that this member of the union is set, and what it points to lives as long as the value.
            Value::Text(unsafe { text(held.string_value, named.value_size) }?)
        }
        // SAFETY: as above.
        PJRT_NamedValue_kInt64 => Value::Int(unsafe { held.int64_value }),
        PJRT_NamedValue_kInt64List => {
            // SAFETY: as above.
            Value::Ints(unsafe { list(held.int64_array_value, named.value_size, MOST_LISTED) }?.to_vec())
        }
        // SAFETY: as above.
        PJRT_NamedValue_kFloat => Value::Float(unsafe { held.float_value }),
        // SAFETY: as above, and it is alive.
        PJRT_NamedValue_kBool => Value::Bool(unsafe { truth(&raw const held.bool_value) }),
        _ => Value::Unknown,
    };
    // SAFETY: as above.
    Ok((unsafe { text(named.name, named.name_size) }?, value))
}

/// Options as a plugin takes them. They point into `options`, which must outlive them.
pub fn to_named(options: &[(String, Value)]) -> Vec<PJRT_NamedValue> {
    let named = |(name, value): &(String, Value)| {
        let mut named = PJRT_NamedValue {
            struct_size: size_of::<PJRT_NamedValue>(),
            name: name.as_ptr().cast(),
            name_size: name.len(),
            value_size: 1,
            ..PJRT_NamedValue::default()
        };
        let held = &mut named.__bindgen_anon_1;
        match value {
            Value::Text(text) => {
                named.type_ = PJRT_NamedValue_kString;
                held.string_value = text.as_ptr().cast();
                named.value_size = text.len();
            }
            Value::Int(value) => {
                named.type_ = PJRT_NamedValue_kInt64;
                held.int64_value = *value;
            }
            Value::Ints(values) => {
                named.type_ = PJRT_NamedValue_kInt64List;
                held.int64_array_value = values.as_ptr();
                named.value_size = values.len();
            }
            Value::Float(value) => {
                named.type_ = PJRT_NamedValue_kFloat;
                held.float_value = *value;
            }
            Value::Bool(value) => {
                named.type_ = PJRT_NamedValue_kBool;
                held.bool_value = *value;
            }
            Value::Unknown => return None,
        }
        Some(named)
    };
    options.iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_field_covers_is_zero() {
        let padded = padded::<PJRT_Error_GetCode_Args>();
        let start: *const u8 = (&raw const *padded).cast();
        // SAFETY: all of a box that lives.
        let bytes = unsafe { std::slice::from_raw_parts(start, size_of_val(&*padded)) };
        assert!(bytes[PJRT_Error_GetCode_Args_STRUCT_SIZE as usize..].iter().all(|byte| *byte == 0));
        assert_eq!(bytes.len(), size_of::<PJRT_Error_GetCode_Args>() + ROOM * 8);
    }
}
