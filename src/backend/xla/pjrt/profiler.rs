//! What devices did while work ran, by a plugin's own profiler, where it has one.
//!
//! The extension's structs are those of `pjrt_c_api_profiler_extension.h` and `xla/backends/profiler/plugin/profiler_c_api.h` (PJRT C API
//! 0.90); they are few and carry no extensions of their own. Must not know what is in a trace.

// Foreign calls, as in `api`: whole argument structs that tell their size, functions of the header's types in a library that stays.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use crate::backend::xla::pjrt::api::{Plugin, list, text};
use crate::backend::xla::pjrt::sys::{PJRT_Extension_Base, PJRT_Extension_Type_Profiler};
use crate::backend::xla::pjrt::{Client, PjrtError, Result};

/// Extensions of a plugin are a list; a longer one is a circle.
const MOST_EXTENSIONS: usize = 256;
/// A trace is not larger, bytes.
const MOST_TRACE: usize = 1 << 30;
/// Fields that a later header adds to an argument struct read as "not set".
const ROOM: usize = 64;

/// `ProfileOptions` (`tsl/profiler/protobuf/profiler_options.proto`): host tracer (2) off, device tracer (3) on, version (5) 1, without the
/// program's text (7).
const OPTIONS: [u8; 8] = [2 << 3, 0, 3 << 3, 1, 5 << 3, 1, 7 << 3, 0];

enum Profiler {}
enum Failure {}

#[repr(C)]
struct Extension {
    base: PJRT_Extension_Base,
    table: *const Table,
}

/// A function that takes a struct of arguments.
type Takes<A> = Option<unsafe extern "C" fn(*mut A) -> *mut Failure>;

#[repr(C)]
#[derive(Clone, Copy)]
struct Table {
    struct_size: usize,
    private: *mut c_void,
    error_destroy: Option<unsafe extern "C" fn(*mut OfFailure)>,
    error_message: Option<unsafe extern "C" fn(*mut OfFailure)>,
    error_get_code: Takes<CodeOf>,
    create: Takes<Create>,
    destroy: Takes<Of>,
    start: Takes<Of>,
    stop: Takes<Of>,
    collect_data: Takes<Collect>,
}

/// Arguments of asking for an error's text, and of freeing it.
#[repr(C)]
struct OfFailure {
    struct_size: usize,
    private: *mut c_void,
    failure: *mut Failure,
    message: *const c_char,
    message_size: usize,
    room: [u8; ROOM],
}

#[repr(C)]
struct CodeOf {
    struct_size: usize,
    private: *mut c_void,
    failure: *mut Failure,
    code: c_int,
    room: [u8; ROOM],
}

#[repr(C)]
struct Create {
    struct_size: usize,
    options: *const u8,
    options_size: usize,
    profiler: *mut Profiler,
    room: [u8; ROOM],
}

/// Arguments of what is done to a profiler.
#[repr(C)]
struct Of {
    struct_size: usize,
    profiler: *mut Profiler,
    room: [u8; ROOM],
}

#[repr(C)]
struct Collect {
    struct_size: usize,
    profiler: *mut Profiler,
    buffer: *mut u8,
    buffer_size: usize,
    room: [u8; ROOM],
}

/// A profiler of a plugin; destroyed when it goes.
struct Session {
    table: Table,
    raw: *mut Profiler,
}

impl Client {
    /// Runs `work` under the plugin's profiler; what it saw, an `XSpace` (`tsl/profiler/protobuf/xplane.proto`) in protobuf's wire format.
    ///
    /// # Errors
    /// [`PjrtError::Missing`] where the plugin has no profiler; as it or `work` refuses.
    pub fn profiled(&self, work: impl FnOnce() -> Result<()>) -> Result<Vec<u8>> {
        let table = self.plugin().profiler().ok_or(PjrtError::Missing("profiler"))?;
        Session::new(table)?.watch(work)
    }
}

impl Plugin {
    /// The table of the profiler among the plugin's extensions.
    fn profiler(&self) -> Option<Table> {
        let mut next = self.table().extension_start;
        for _ in 0..MOST_EXTENSIONS {
            if next.is_null() || !next.is_aligned() {
                return None;
            }
            // SAFETY: extensions are a list of structs that begin with this one and stay as long as the plugin, which is for ever.
            let base = unsafe { *next };
            if base.type_ == PJRT_Extension_Type_Profiler {
                // SAFETY: an extension of this type has this struct; it is read only where it is whole.
                let table = (base.struct_size >= size_of::<Extension>())
                    .then(|| unsafe { (*next.cast::<Extension>()).table })?;
                if table.is_null() || !table.is_aligned() {
                    return None;
                }
                // SAFETY: the table begins with its size, and is read only where it is whole.
                return unsafe { ((*table).struct_size >= size_of::<Table>()).then(|| *table) };
            }
            next = base.next;
        }
        None
    }
}

impl Session {
    fn new(table: Table) -> Result<Self> {
        let mut arguments = Create {
            struct_size: size_of::<Create>(),
            options: OPTIONS.as_ptr(),
            options_size: OPTIONS.len(),
            profiler: ptr::null_mut(),
            room: [0; ROOM],
        };
        call(&table, "PLUGIN_Profiler_Create", table.create, &mut arguments)?;
        if arguments.profiler.is_null() {
            return Err(PjrtError::Contract("it gives no profiler".to_owned()));
        }
        Ok(Self { table, raw: arguments.profiler })
    }

    fn watch(&self, work: impl FnOnce() -> Result<()>) -> Result<Vec<u8>> {
        self.does("PLUGIN_Profiler_Start", self.table.start)?;
        let worked = work();
        self.does("PLUGIN_Profiler_Stop", self.table.stop)?;
        worked?;
        self.collect()
    }

    fn does(&self, name: &'static str, function: Takes<Of>) -> Result<()> {
        let mut arguments = Of { struct_size: size_of::<Of>(), profiler: self.raw, room: [0; ROOM] };
        call(&self.table, name, function, &mut arguments)
    }

    /// The trace, once it is stopped.
    fn collect(&self) -> Result<Vec<u8>> {
        let name = "PLUGIN_Profiler_CollectData";
        let mut arguments = Collect {
            struct_size: size_of::<Collect>(),
            profiler: self.raw,
            buffer: ptr::null_mut(),
            buffer_size: 0,
            room: [0; ROOM],
        };
        call(&self.table, name, self.table.collect_data, &mut arguments)?;
        let size = arguments.buffer_size;
        if size > MOST_TRACE {
            return Err(PjrtError::Contract(format!("a trace of {size} bytes")));
        }
        // By the header the first call tells the size alone; XLA's own gives its buffer too.
        if !arguments.buffer.is_null() {
            // SAFETY: the buffer is the profiler's own, which is alive.
            return Ok(unsafe { list(arguments.buffer.cast_const(), size, MOST_TRACE) }?.to_vec());
        }
        let mut trace = vec![0_u8; size];
        arguments.buffer = trace.as_mut_ptr();
        call(&self.table, name, self.table.collect_data, &mut arguments)?;
        Ok(trace)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Its error has nowhere to go: the profiler is gone for us either way.
        let _ = self.does("PLUGIN_Profiler_Destroy", self.table.destroy);
    }
}

fn call<A>(table: &Table, name: &'static str, function: Takes<A>, arguments: &mut A) -> Result<()> {
    let function = function.ok_or(PjrtError::Missing(name))?;
    // SAFETY: the function has the header's type for these arguments, which are whole, tell their size, and outlive the call, as does
    // everything that they point to.
    let failure = unsafe { function(ptr::from_mut(arguments)) };
    if failure.is_null() {
        return Ok(());
    }
    let of = || OfFailure {
        struct_size: size_of::<OfFailure>(),
        private: ptr::null_mut(),
        failure,
        message: ptr::null(),
        message_size: 0,
        room: [0; ROOM],
    };
    let mut message = String::new();
    if let Some(function) = table.error_message {
        let mut arguments = of();
        // SAFETY: the error is alive, and the text that it gives belongs to it.
        unsafe { function(&raw mut arguments) };
        // SAFETY: as above.
        message = unsafe { text(arguments.message, arguments.message_size) }.unwrap_or_default();
    }
    let mut code = 2;
    if let Some(function) = table.error_get_code {
        let (struct_size, private) = (size_of::<CodeOf>(), ptr::null_mut());
        let mut arguments = CodeOf { struct_size, private, failure, code: 2, room: [0; ROOM] };
        // SAFETY: the error is alive. An error of asking for its code is nobody's, and leaks.
        let _ = unsafe { function(&raw mut arguments) };
        code = arguments.code.unsigned_abs();
    }
    if let Some(function) = table.error_destroy {
        let mut arguments = of();
        // SAFETY: an error that the plugin gave, freed once.
        unsafe { function(&raw mut arguments) };
    }
    Err(PjrtError::Plugin { call: name, code, message })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const TRACE: [u8; 3] = *b"abc";
    static BORROWED: [u8; 3] = TRACE;
    const WORDS: &str = "another profiler runs";

    /// What was called, in order, one letter each; held while a test runs.
    static CALLS: Mutex<String> = Mutex::new(String::new());

    fn note(letter: char) {
        CALLS.lock().expect("the calls").push(letter);
    }

    fn some<T>() -> *mut T {
        ptr::without_provenance_mut(8)
    }

    unsafe extern "C" fn create(arguments: *mut Create) -> *mut Failure {
        note('c');
        // SAFETY: whole, as the caller has it.
        let arguments = unsafe { &mut *arguments };
        assert_eq!((arguments.options_size, arguments.struct_size), (OPTIONS.len(), size_of::<Create>()));
        arguments.profiler = some();
        ptr::null_mut()
    }

    unsafe extern "C" fn start(_: *mut Of) -> *mut Failure {
        note('b');
        ptr::null_mut()
    }

    unsafe extern "C" fn refuses(_: *mut Of) -> *mut Failure {
        some()
    }

    unsafe extern "C" fn stop(_: *mut Of) -> *mut Failure {
        note('e');
        ptr::null_mut()
    }

    unsafe extern "C" fn destroy(_: *mut Of) -> *mut Failure {
        note('d');
        ptr::null_mut()
    }

    /// As XLA does it: its own buffer with the first call.
    unsafe extern "C" fn lends(arguments: *mut Collect) -> *mut Failure {
        note('l');
        // SAFETY: whole, as the caller has it.
        let arguments = unsafe { &mut *arguments };
        (arguments.buffer, arguments.buffer_size) = (BORROWED.as_ptr().cast_mut(), BORROWED.len());
        ptr::null_mut()
    }

    /// As the header has it: the size, then a copy.
    unsafe extern "C" fn copies(arguments: *mut Collect) -> *mut Failure {
        note('y');
        // SAFETY: whole, as the caller has it, with room for what it was told of.
        unsafe {
            let arguments = &mut *arguments;
            arguments.buffer_size = TRACE.len();
            if !arguments.buffer.is_null() {
                ptr::copy_nonoverlapping(TRACE.as_ptr(), arguments.buffer, TRACE.len());
            }
        }
        ptr::null_mut()
    }

    unsafe extern "C" fn message(arguments: *mut OfFailure) {
        // SAFETY: whole, as the caller has it.
        let arguments = unsafe { &mut *arguments };
        (arguments.message, arguments.message_size) = (WORDS.as_ptr().cast(), WORDS.len());
    }

    unsafe extern "C" fn code(arguments: *mut CodeOf) -> *mut Failure {
        // SAFETY: whole, as the caller has it.
        unsafe { (*arguments).code = 9 };
        ptr::null_mut()
    }

    unsafe extern "C" fn free(arguments: *mut OfFailure) {
        note('f');
        // SAFETY: whole, as the caller has it.
        assert!(!unsafe { (*arguments).failure }.is_null());
    }

    fn table() -> Table {
        Table {
            struct_size: size_of::<Table>(),
            private: ptr::null_mut(),
            error_destroy: Some(free),
            error_message: Some(message),
            error_get_code: Some(code),
            create: Some(create),
            destroy: Some(destroy),
            start: Some(start),
            stop: Some(stop),
            collect_data: Some(lends),
        }
    }

    #[test]
    fn a_session_is_begun_ended_read_and_destroyed_whatever_happens() {
        let run = |table: Table, work: fn() -> Result<()>| {
            let trace = Session::new(table).and_then(|session| session.watch(work));
            (trace, std::mem::take(&mut *CALLS.lock().expect("the calls")))
        };
        assert_eq!(run(table(), || Ok(())), (Ok(TRACE.to_vec()), "cbeld".to_owned()));
        let header = Table { collect_data: Some(copies), ..table() };
        assert_eq!(run(header, || Ok(())), (Ok(TRACE.to_vec()), "cbeyyd".to_owned()));
        // Work that fails stops the profiler all the same.
        let no = || PjrtError::Argument("no".to_owned());
        assert_eq!(run(table(), || Err(PjrtError::Argument("no".to_owned()))), (Err(no()), "cbed".to_owned()));
        let refused = PjrtError::Plugin { call: "PLUGIN_Profiler_Start", code: 9, message: WORDS.to_owned() };
        assert_eq!(run(Table { start: Some(refuses), ..table() }, || Ok(())), (Err(refused), "cfd".to_owned()));
        let (missing, _) = run(Table { collect_data: None, ..table() }, || Ok(()));
        assert_eq!(missing, Err(PjrtError::Missing("PLUGIN_Profiler_CollectData")));
    }
}
