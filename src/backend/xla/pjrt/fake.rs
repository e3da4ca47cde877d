//! A plugin in Rust, in this process, for tests of the binding that Miri can execute: handles are really allocated and freed, what
//! they point to is really read and written, and devices work late. It looks at what it is given as strictly as the interface allows,
//! refuses the call that it is told to, and breaks its contract in the ways of [`Bend`].
//!
//! A program is a digit, the number of its results: each is an argument plus one. Must not know the binding but its header.

// The other side of the binding. What it relies on: pointers of arguments are those of the caller, whole and alive during the call;
// handles are boxes that were given out here and are used by their own type until they are destroyed.
#![allow(unsafe_code)]
// Half of a file's types come from there, by names that no other place has.
#![allow(clippy::wildcard_imports)]
// The header's names.
#![allow(non_snake_case)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::mem::{MaybeUninit, size_of};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::backend::xla::pjrt::Result;
use crate::backend::xla::pjrt::api::{Plugin, Value, to_named};
use crate::backend::xla::pjrt::sys::*;

/// A way to break the contract, or to use all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bend {
    /// Keeps it.
    Honest,
    /// Lists and texts of no length are null pointers, and so are events.
    Nulls,
    NullClient,
    NullDevice,
    NullDescription,
    NullBuffer,
    NullProgram,
    NullCompiled,
    NullTopology,
    /// The second of a launch's results is none.
    NullResult,
    /// More results than there can be.
    ManyResults,
    /// More devices than there can be.
    ManyDevices,
    /// A list that does not begin where its entries may lie.
    Crooked,
    /// An error whose words cannot be that long.
    LongWords,
    /// A download of another size than the array's.
    OtherSize,
    /// Arrays of a type that nobody knows.
    OtherType,
    /// Truths that are neither 0 nor 1.
    OddTruth,
    /// Launches that start, and fail later.
    FailsLater,
}

/// What a call ends with where it does not end well: abseil's code, and words.
type Refusal = (PJRT_Error_Code, &'static str);

/// What all handles of a plugin share.
#[derive(Debug)]
pub struct World {
    bend: Bend,
    /// Which call, counted from the first, is refused.
    refused: Option<usize>,
    calls: Mutex<Vec<&'static str>>,
    live: Mutex<BTreeMap<&'static str, usize>>,
    complaints: Mutex<Vec<String>>,
}

thread_local! {
    /// The world of calls that have no handle: that of the plugin made last.
    static CURRENT: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

impl World {
    fn current() -> Arc<Self> {
        CURRENT.with_borrow(|world| world.clone().expect("a plugin was made on this thread"))
    }

    fn must(&self, kept: bool, what: &str) {
        if !kept {
            self.complaints.lock().unwrap().push(what.to_owned());
        }
    }

    /// Writes a call down, or refuses it.
    fn enter(&self, call: &'static str) -> std::result::Result<(), Refusal> {
        let mut calls = self.calls.lock().unwrap();
        calls.push(call);
        if self.refused == Some(calls.len() - 1) { Err((PJRT_Error_Code_ABORTED, "told to refuse")) } else { Ok(()) }
    }

    fn is(&self, bend: Bend) -> bool {
        self.bend == bend
    }
}

/// A plugin and what became of it.
#[derive(Debug)]
pub struct Fake(Arc<World>);

impl Fake {
    pub fn new(bend: Bend, refused: Option<usize>) -> Self {
        let world = Arc::new(World {
            bend,
            refused,
            calls: Mutex::default(),
            live: Mutex::default(),
            complaints: Mutex::default(),
        });
        Self(world)
    }

    /// As the binding sees it through a table that lacks the functions of these names.
    pub fn lacking(&self, names: &[&str]) -> Result<Plugin> {
        CURRENT.set(Some(self.0.clone()));
        let table = table(names);
        // SAFETY: a whole table of functions of the header's types.
        unsafe { Plugin::from_table(&raw const table) }?.initialised()
    }

    /// As the binding sees it.
    pub fn plugin(&self) -> Result<Plugin> {
        self.lacking(&[])
    }

    /// As the binding sees it through a table of so many bytes, of which none can be read beyond; not initialised.
    pub fn cut(&self, bytes: usize) -> Result<Plugin> {
        CURRENT.set(Some(self.0.clone()));
        let mut whole = table(&[]);
        whole.struct_size = bytes;
        let mut room = vec![MaybeUninit::<u64>::zeroed(); bytes.div_ceil(size_of::<u64>()).max(1)].into_boxed_slice();
        let copied = bytes.clamp(size_of::<usize>(), size_of::<PJRT_Api>());
        // SAFETY: neither is shorter than what is copied.
        unsafe { ptr::copy_nonoverlapping((&raw const whole).cast::<u8>(), room.as_mut_ptr().cast::<u8>(), copied) };
        // SAFETY: begins with its size, and has so many bytes of functions of the header's types.
        unsafe { Plugin::from_table(room.as_ptr().cast()) }
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<&'static str> {
        self.0.calls.lock().unwrap().clone()
    }

    /// What lives now.
    pub fn live(&self) -> BTreeMap<&'static str, usize> {
        let live = self.0.live.lock().unwrap();
        live.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (*kind, *count)).collect()
    }

    /// That everything is gone and nothing was wrong.
    #[track_caller]
    pub fn over(&self, when: &str) {
        assert_eq!(self.live(), BTreeMap::new(), "{when}");
        assert_eq!(*self.0.complaints.lock().unwrap(), Vec::<String>::new(), "{when}");
    }
}

/// What a handle points to.
trait Handle {
    const KIND: &'static str;
    fn world(&self) -> &Arc<World>;
}

impl Handle for Arc<World> {
    const KIND: &'static str = "world";
    fn world(&self) -> &Arc<World> {
        self
    }
}

macro_rules! handles {
    ($($name:ident),*) => {
        $(impl Handle for $name {
            const KIND: &'static str = stringify!($name);
            fn world(&self) -> &Arc<World> {
                &self.world
            }
        })*
    };
}

handles!(Failure, Event, Client, Device, Description, Buffer, Loaded, Compiled, Serialized, Topology);

fn give<T: Handle, Raw>(object: T) -> *mut Raw {
    *object.world().live.lock().unwrap().entry(T::KIND).or_default() += 1;
    Box::into_raw(Box::new(object)).cast()
}

fn take<T: Handle, Raw>(raw: *mut Raw) {
    // SAFETY: given out as a box of this type, and destroyed once.
    let object = unsafe { Box::from_raw(raw.cast::<T>()) };
    *object.world().live.lock().unwrap().entry(T::KIND).or_default() -= 1;
}

fn at<'a, T: Handle, Raw>(raw: *const Raw) -> &'a T {
    // SAFETY: a handle of this type that is alive.
    unsafe { &*raw.cast::<T>() }
}

struct Failure {
    world: Arc<World>,
    refusal: Refusal,
}

struct Event {
    world: Arc<World>,
    failure: Option<Refusal>,
    /// A copy that the device has not made yet, and where to.
    copy: Mutex<Option<(Vec<u8>, *mut c_void)>>,
}

impl Event {
    fn raw(world: &Arc<World>, failure: Option<Refusal>) -> *mut PJRT_Event {
        if world.is(Bend::Nulls) {
            return ptr::null_mut();
        }
        give(Self { world: world.clone(), failure, copy: Mutex::default() })
    }

    fn happen(&self) {
        if let Some((bytes, to)) = self.copy.lock().unwrap().take() {
            // SAFETY: the caller keeps so many bytes there until the event has happened.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast(), bytes.len()) };
        }
    }
}

impl Drop for Event {
    /// Nobody waited; the device works all the same, and where to may be gone by then.
    fn drop(&mut self) {
        let made = self.copy.lock().unwrap().is_none();
        self.world.must(made || self.world.refused.is_some(), "nobody waits for a copy");
        self.happen();
    }
}

/// Named values and what they point to.
struct Named {
    _values: Vec<(String, Value)>,
    raw: Vec<PJRT_NamedValue>,
}

impl Named {
    fn new(values: Vec<(String, Value)>) -> Self {
        Self { raw: to_named(&values), _values: values }
    }
}

struct Description {
    world: Arc<World>,
    id: i32,
    attributes: Named,
}

impl Description {
    fn raw(world: &Arc<World>, id: i32) -> *mut PJRT_DeviceDescription {
        let values = [
            ("name", Value::Text("fake".to_owned())),
            ("none", Value::Text(String::new())),
            ("cores", Value::Int(2)),
            ("coords", Value::Ints(vec![i64::from(id), 0, 0])),
            ("clock", Value::Float(1.5)),
            ("spare", Value::Bool(id == 1)),
        ];
        let attributes = Named::new(values.map(|(name, value)| (name.to_owned(), value)).into());
        give(Self { world: world.clone(), id, attributes })
    }
}

struct Device {
    world: Arc<World>,
    client: *mut Client,
    description: *mut PJRT_DeviceDescription,
    used: AtomicUsize,
}

struct Client {
    world: Arc<World>,
    devices: Vec<*mut PJRT_Device>,
    /// Handles that need it.
    parts: AtomicUsize,
}

/// A part of a client, which must not outlive it.
struct Part(*mut Client);

impl Part {
    fn of(client: *mut Client) -> Self {
        if !client.is_null() {
            at::<Client, _>(client).parts.fetch_add(1, Ordering::SeqCst);
        }
        Self(client)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.0.is_null() {
            at::<Client, _>(self.0).parts.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

struct Buffer {
    world: Arc<World>,
    part: Part,
    element: PJRT_Buffer_Type,
    shape: Vec<i64>,
    /// Nothing once donated.
    values: Mutex<Option<Vec<u8>>>,
    failure: Option<Refusal>,
}

struct Loaded {
    world: Arc<World>,
    part: Part,
    results: usize,
}

struct Compiled {
    world: Arc<World>,
    /// Null where it was compiled for devices that are not here.
    _part: Part,
    results: usize,
    costs: Named,
}

impl Compiled {
    fn raw(world: &Arc<World>, client: *mut Client, results: usize) -> *mut PJRT_Executable {
        let costs = [("flops", Value::Float(8.0)), ("bytes accessed", Value::Int(64))];
        let costs = Named::new(costs.map(|(name, value)| (name.to_owned(), value)).into());
        give(Self { world: world.clone(), _part: Part::of(client), results, costs })
    }
}

struct Serialized {
    world: Arc<World>,
    bytes: Vec<u8>,
}

struct Topology {
    world: Arc<World>,
    descriptions: Vec<*mut PJRT_DeviceDescription>,
}

fn bytes<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() {
        assert_eq!(count, 0, "something at null");
        return &[];
    }
    // SAFETY: the caller's list.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// Start and length of a list, which is null where it is empty and that is wanted.
fn told<T>(world: &World, list: &[T]) -> (*const T, usize) {
    if world.is(Bend::Nulls) { (ptr::null(), 0) } else { (list.as_ptr(), list.len()) }
}

/// How many results a program has.
fn read(code: &[u8]) -> std::result::Result<usize, Refusal> {
    match code {
        [digit @ b'0'..=b'9'] => Ok(usize::from(digit - b'0')),
        _ => Err((PJRT_Error_Code_INVALID_ARGUMENT, "this is no program\n\n   stack\n")),
    }
}

fn read_program(world: &World, raw: *const PJRT_Program) -> std::result::Result<usize, Refusal> {
    whole(world, raw.cast_mut());
    // SAFETY: the caller's.
    let program = unsafe { &*raw };
    world.must(bytes(program.format.cast::<u8>(), program.format_size) == b"mlir", "the format is `mlir`");
    read(bytes(program.code.cast::<u8>(), program.code_size))
}

static ZEROS: [u8; 1024] = [0; 1024];

/// That a struct tells a size that is no less than ours, all of which can be read, and that nothing is set that our header does not have.
fn whole<T>(world: &World, start: *mut T) {
    // SAFETY: every struct begins with its size, which can be read wholly.
    let all = unsafe { bytes(start.cast::<u8>(), *start.cast::<usize>()) };
    world.must(all.len() > size_of::<T>(), std::any::type_name::<T>());
    // Compared as a whole, which Miri does fast and not with what was never written.
    world.must(all != &ZEROS[..all.len()], "a struct tells its size");
    let room = &all[size_of::<T>().min(all.len())..];
    world.must(room == &ZEROS[..room.len()], "room is zero");
}

/// Does what a call is to do, unless it is refused.
fn ended(
    world: &Arc<World>,
    name: &'static str,
    work: impl FnOnce() -> std::result::Result<(), Refusal>,
) -> *mut PJRT_Error {
    let ended = if name.ends_with("_Destroy") {
        // What is refused to be destroyed is gone, as after any other end of a destructor.
        work().and(world.enter(name))
    } else {
        world.enter(name).and_then(|()| work())
    };
    match ended {
        Ok(()) => ptr::null_mut(),
        Err(refusal) => give(Failure { world: world.clone(), refusal }),
    }
}

macro_rules! functions {
    ($($function:ident, $args:ident, |$of:ident| $handle:expr, |$a:ident, $at:ident| $body:expr;)*) => {
        $(unsafe extern "C" fn $function(args: *mut $args) -> *mut PJRT_Error {
            let handle = {
                // SAFETY: the caller's.
                let $of = unsafe { &*args };
                $handle
            };
            let world = handle.world().clone();
            whole(&world, args);
            // SAFETY: the caller's, and nobody else's during the call.
            let $a = unsafe { &mut *args };
            let $at = handle;
            ended(&world, stringify!($function), || {
                $body;
                #[allow(unreachable_code)]
                Ok(())
            })
        })*

        fn table(lacking: &[&str]) -> PJRT_Api {
            let mut table = PJRT_Api {
                struct_size: size_of::<PJRT_Api>(),
                pjrt_api_version: PJRT_Api_Version {
                    struct_size: size_of::<PJRT_Api_Version>(),
                    major_version: 0,
                    minor_version: 90,
                    ..PJRT_Api_Version::default()
                },
                PJRT_Error_Destroy: Some(PJRT_Error_Destroy),
                PJRT_Error_Message: Some(PJRT_Error_Message),
                $($function: Some($function),)*
                ..PJRT_Api::default()
            };
            $(if lacking.contains(&stringify!($function)) {
                table.$function = None;
            })*
            if lacking.contains(&"PJRT_Error_Destroy") {
                table.PJRT_Error_Destroy = None;
            }
            if lacking.contains(&"PJRT_Error_Message") {
                table.PJRT_Error_Message = None;
            }
            table
        }
    };
}

unsafe extern "C" fn PJRT_Error_Destroy(args: *mut PJRT_Error_Destroy_Args) {
    // SAFETY: the caller's.
    take::<Failure, _>(unsafe { &*args }.error);
}

unsafe extern "C" fn PJRT_Error_Message(args: *mut PJRT_Error_Message_Args) {
    // SAFETY: the caller's.
    let a = unsafe { &mut *args };
    let failure = at::<Failure, _>(a.error);
    whole(&failure.world, args);
    // SAFETY: as above.
    let a = unsafe { &mut *args };
    a.message = failure.refusal.1.as_ptr().cast();
    a.message_size = if failure.world.is(Bend::LongWords) { 1 << 60 } else { failure.refusal.1.len() };
}

unsafe extern "C" fn free_serialized(raw: *mut PJRT_SerializedExecutable) {
    take::<Serialized, _>(raw);
}

functions! {
    PJRT_Error_GetCode, PJRT_Error_GetCode_Args, |a| at::<Failure, _>(a.error), |a, failure| a.code = failure.refusal.0;

    PJRT_Plugin_Initialize, PJRT_Plugin_Initialize_Args, |_a| World::current(), |_a, world| drop(world);

    PJRT_Plugin_Attributes, PJRT_Plugin_Attributes_Args, |_a| World::current(), |a, world| {
        struct Forever(PJRT_NamedValue);
        // SAFETY: never changed.
        unsafe impl Sync for Forever {}
        static ODD: Forever = Forever(PJRT_NamedValue {
            struct_size: size_of::<PJRT_NamedValue>(),
            extension_start: ptr::null_mut(),
            name: c"odd".as_ptr(),
            name_size: 3,
            type_: PJRT_NamedValue_kBool,
            __bindgen_anon_1: PJRT_NamedValue__bindgen_ty_1 { int64_value: 2 },
            value_size: 1,
        });
        if world.is(Bend::OddTruth) {
            (a.attributes, a.num_attributes) = (&raw const ODD.0, 1);
        } else if world.is(Bend::Crooked) {
            (a.attributes, a.num_attributes) = ((&raw const ODD.0).wrapping_byte_add(1), 1);
        }
    };

    PJRT_Event_Await, PJRT_Event_Await_Args, |a| at::<Event, _>(a.event), |_a, event| {
        event.happen();
        return event.failure.map_or(Ok(()), Err);
    };

    PJRT_Event_Destroy, PJRT_Event_Destroy_Args, |a| at::<Event, _>(a.event).world.clone(), |a, _world| take::<Event, _>(a.event);

    PJRT_Client_Create, PJRT_Client_Create_Args, |_a| World::current(), |a, world| {
        let options = bytes(a.create_options, a.num_options);
        if options.iter().any(|option| bytes(option.name.cast::<u8>(), option.name_size) != b"device_count") {
            return Err((PJRT_Error_Code_INVALID_ARGUMENT, "an option that nobody knows"));
        }
        // SAFETY: the only option is a number.
        let count = options.first().map_or(1, |option| unsafe { option.__bindgen_anon_1.int64_value });
        if !world.is(Bend::NullClient) {
            a.client = give(Client { world: world.clone(), devices: Vec::new(), parts: AtomicUsize::new(0) });
            let client = a.client.cast::<Client>();
            let device = |id| {
                if world.is(Bend::NullDevice) {
                    return ptr::null_mut();
                }
                let description = Description::raw(&world, id);
                give(Device { world: world.clone(), client, description, used: AtomicUsize::new(0) })
            };
            let devices = (0..count as i32).map(device).collect();
            // SAFETY: given just now.
            unsafe { (*client).devices = devices };
        }
    };

    PJRT_Client_Destroy, PJRT_Client_Destroy_Args, |a| at::<Client, _>(a.client).world.clone(), |a, world| {
        let client = at::<Client, _>(a.client);
        if client.parts.load(Ordering::SeqCst) > 0 {
            world.must(false, "a client goes before its parts");
            return Ok(());
        }
        for device in client.devices.iter().filter(|device| !device.is_null()) {
            take::<Description, _>(at::<Device, _>(*device).description);
            take::<Device, _>(*device);
        }
        take::<Client, _>(a.client);
    };

    PJRT_Client_PlatformName, PJRT_Client_PlatformName_Args, |a| at::<Client, _>(a.client), |a, client| {
        let (name, length) = told(&client.world, b"fake");
        (a.platform_name, a.platform_name_size) = (name.cast(), length);
    };

    PJRT_Client_PlatformVersion, PJRT_Client_PlatformVersion_Args, |a| at::<Client, _>(a.client), |a, client| {
        let (version, length) = told(&client.world, b"\xffone\nmore");
        (a.platform_version, a.platform_version_size) = (version.cast(), length);
    };

    PJRT_Client_AddressableDevices, PJRT_Client_AddressableDevices_Args, |a| at::<Client, _>(a.client), |a, client| {
        (a.addressable_devices, a.num_addressable_devices) = told(&client.world, &client.devices);
        if client.world.is(Bend::ManyDevices) {
            a.num_addressable_devices = 1 << 58;
        }
    };

    PJRT_Device_GetDescription, PJRT_Device_GetDescription_Args, |a| at::<Device, _>(a.device), |a, device| {
        a.device_description = if device.world.is(Bend::NullDescription) { ptr::null_mut() } else { device.description };
    };

    PJRT_Device_LocalHardwareId, PJRT_Device_LocalHardwareId_Args, |a| at::<Device, _>(a.device), |a, device| {
        a.local_hardware_id = at::<Description, _>(device.description).id;
    };

    PJRT_Device_MemoryStats, PJRT_Device_MemoryStats_Args, |a| at::<Device, _>(a.device), |a, device| {
        a.peak_bytes_in_use = device.used.load(Ordering::SeqCst) as i64;
        let odd = u8::from(a.peak_bytes_in_use > 0) * if device.world.is(Bend::OddTruth) { 2 } else { 1 };
        // SAFETY: a byte of the caller's.
        unsafe { (&raw mut a.peak_bytes_in_use_is_set).cast::<u8>().write(odd) };
    };

    PJRT_DeviceDescription_Id, PJRT_DeviceDescription_Id_Args, |a| at::<Description, _>(a.device_description), |a, description| {
        a.id = description.id;
    };

    PJRT_DeviceDescription_Kind, PJRT_DeviceDescription_Kind_Args, |a| at::<Description, _>(a.device_description),
    |a, description| {
        let (kind, length) = told(&description.world, b"fake device");
        (a.device_kind, a.device_kind_size) = (kind.cast(), length);
    };

    PJRT_DeviceDescription_Attributes, PJRT_DeviceDescription_Attributes_Args,
    |a| at::<Description, _>(a.device_description),
    |a, description| {
        (a.attributes, a.num_attributes) = told(&description.world, &description.attributes.raw);
    };

    PJRT_Client_BufferFromHostBuffer, PJRT_Client_BufferFromHostBuffer_Args, |a| at::<Client, _>(a.client), |a, client| {
        let world = &client.world;
        let device = at::<Device, _>(a.device);
        world.must(device.client == a.client.cast(), "a device of another client");
        let shape = bytes(a.dims, a.num_dims).to_vec();
        let size = if a.type_ == PJRT_Buffer_Type_BF16 { 2 } else { 4 };
        let count = shape.iter().product::<i64>() as usize * size;
        device.used.fetch_add(count, Ordering::SeqCst);
        a.done_with_host_buffer = Event::raw(world, None);
        if !world.is(Bend::NullBuffer) {
            a.buffer = give(Buffer {
                world: world.clone(),
                part: Part::of(a.client.cast()),
                element: if world.is(Bend::OtherType) { 99 } else { a.type_ },
                shape,
                values: Mutex::new(Some(bytes(a.data.cast::<u8>(), count).to_vec())),
                failure: None,
            });
        }
    };

    PJRT_Buffer_Destroy, PJRT_Buffer_Destroy_Args, |a| at::<Buffer, _>(a.buffer).world.clone(), |a, _world| take::<Buffer, _>(a.buffer);

    PJRT_Buffer_ElementType, PJRT_Buffer_ElementType_Args, |a| at::<Buffer, _>(a.buffer), |a, buffer| a.type_ = buffer.element;

    PJRT_Buffer_Dimensions, PJRT_Buffer_Dimensions_Args, |a| at::<Buffer, _>(a.buffer), |a, buffer| {
        (a.dims, a.num_dims) = if buffer.shape.is_empty() { (ptr::null(), 0) } else { (buffer.shape.as_ptr(), buffer.shape.len()) };
    };

    PJRT_Buffer_ReadyEvent, PJRT_Buffer_ReadyEvent_Args, |a| at::<Buffer, _>(a.buffer), |a, buffer| {
        a.event = Event::raw(&buffer.world, buffer.failure);
    };

    PJRT_Buffer_ToHostBuffer, PJRT_Buffer_ToHostBuffer_Args, |a| at::<Buffer, _>(a.src), |a, buffer| {
        let world = &buffer.world;
        let Some(values) = buffer.values.lock().unwrap().clone() else {
            return Err((PJRT_Error_Code_INVALID_ARGUMENT, "the array was donated"));
        };
        // SAFETY: the caller's, and its type says which it is.
        let layout = unsafe { (*a.host_layout).__bindgen_anon_1.tiled };
        let order: Vec<i64> = (0..buffer.shape.len() as i64).rev().collect();
        world.must(bytes(layout.minor_to_major, layout.minor_to_major_size) == order, "row by row");
        if a.dst.is_null() {
            a.dst_size = values.len() + usize::from(world.is(Bend::OtherSize));
            return Ok(());
        }
        world.must(a.dst_size == values.len(), "room for the array");
        let copy = Event { world: world.clone(), failure: buffer.failure, copy: Mutex::new(Some((values, a.dst))) };
        if world.is(Bend::Nulls) {
            copy.happen();
        } else {
            a.event = give(copy);
        }
    };

    PJRT_Client_Compile, PJRT_Client_Compile_Args, |a| at::<Client, _>(a.client), |a, client| {
        let results = read_program(&client.world, a.program)?;
        client.world.must(!bytes(a.compile_options.cast::<u8>(), a.compile_options_size).is_empty(), "options");
        if !client.world.is(Bend::NullProgram) {
            a.executable = give(Loaded { world: client.world.clone(), part: Part::of(a.client.cast()), results });
        }
    };

    PJRT_Executable_DeserializeAndLoad, PJRT_Executable_DeserializeAndLoad_Args, |a| at::<Client, _>(a.client), |a, client| {
        let results = read(bytes(a.serialized_executable.cast::<u8>(), a.serialized_executable_size))?;
        a.loaded_executable = give(Loaded { world: client.world.clone(), part: Part::of(a.client.cast()), results });
    };

    PJRT_LoadedExecutable_Destroy, PJRT_LoadedExecutable_Destroy_Args, |a| at::<Loaded, _>(a.executable).world.clone(),
    |a, _world| take::<Loaded, _>(a.executable);

    PJRT_LoadedExecutable_GetExecutable, PJRT_LoadedExecutable_GetExecutable_Args, |a| at::<Loaded, _>(a.loaded_executable),
    |a, loaded| {
        if !loaded.world.is(Bend::NullCompiled) {
            a.executable = Compiled::raw(&loaded.world, loaded.part.0, loaded.results);
        }
    };

    PJRT_LoadedExecutable_Execute, PJRT_LoadedExecutable_Execute_Args, |a| at::<Loaded, _>(a.executable), |a, loaded| {
        let world = &loaded.world;
        whole(world, a.options);
        // SAFETY: the caller's.
        let options = unsafe { &*a.options };
        let kept = bytes(options.non_donatable_input_indices, options.num_non_donatable_input_indices);
        let failure = world.is(Bend::FailsLater).then_some((PJRT_Error_Code_RESOURCE_EXHAUSTED, "no room for the results"));
        for device in 0..a.num_devices {
            // SAFETY: so many lists are the caller's.
            let (arguments, results) = unsafe { (*a.argument_lists.add(device), *a.output_lists.add(device)) };
            let mut inputs = Vec::new();
            for (place, raw) in bytes(arguments, a.num_args).iter().enumerate() {
                let buffer = at::<Buffer, _>(*raw);
                world.must(buffer.part.0 == loaded.part.0, "an argument of another client");
                let mut held = buffer.values.lock().unwrap();
                let values = if kept.contains(&(place as i64)) { held.clone() } else { held.take() };
                let Some(values) = values else {
                    return Err((PJRT_Error_Code_INVALID_ARGUMENT, "an argument was donated"));
                };
                inputs.push((values, buffer.element, buffer.shape.clone()));
            }
            for place in 0..loaded.results {
                let Some((values, element, shape)) = inputs.get(place % inputs.len().max(1)) else {
                    return Err((PJRT_Error_Code_INVALID_ARGUMENT, "results of nothing"));
                };
                let more = |four: &[u8]| (f32::from_le_bytes(four.try_into().unwrap()) + 1.0).to_le_bytes();
                let values = values.chunks_exact(4).flat_map(more).collect();
                if world.is(Bend::NullResult) && place == 1 {
                    continue;
                }
                let result = give(Buffer {
                    world: world.clone(),
                    part: Part::of(loaded.part.0),
                    element: *element,
                    shape: shape.clone(),
                    values: Mutex::new(Some(values)),
                    failure,
                });
                // SAFETY: room for as many results as the program has.
                unsafe { results.add(place).write(result) };
            }
            // SAFETY: room for an event a device.
            unsafe { a.device_complete_events.add(device).write(Event::raw(world, failure)) };
        }
    };

    PJRT_Executable_Destroy, PJRT_Executable_Destroy_Args, |a| at::<Compiled, _>(a.executable).world.clone(),
    |a, _world| take::<Compiled, _>(a.executable);

    PJRT_Executable_NumOutputs, PJRT_Executable_NumOutputs_Args, |a| at::<Compiled, _>(a.executable), |a, compiled| {
        a.num_outputs = if compiled.world.is(Bend::ManyResults) { 1 << 40 } else { compiled.results };
    };

    PJRT_Executable_SizeOfGeneratedCodeInBytes, PJRT_Executable_SizeOfGeneratedCodeInBytes_Args,
    |a| at::<Compiled, _>(a.executable), |a, compiled| a.size_in_bytes = compiled.results as i64;

    PJRT_Executable_Fingerprint, PJRT_Executable_Fingerprint_Args, |a| at::<Compiled, _>(a.executable), |a, compiled| {
        let (mark, length) = told(&compiled.world, b"\x00\xfe");
        (a.executable_fingerprint, a.executable_fingerprint_size) = (mark.cast(), length);
    };

    PJRT_Executable_GetCostAnalysis, PJRT_Executable_GetCostAnalysis_Args, |a| at::<Compiled, _>(a.executable), |a, compiled| {
        (a.properties, a.num_properties) = told(&compiled.world, &compiled.costs.raw);
    };

    PJRT_Executable_GetCompiledMemoryStats, PJRT_Executable_GetCompiledMemoryStats_Args, |a| at::<Compiled, _>(a.executable),
    |a, _compiled| {
        (a.argument_size_in_bytes, a.output_size_in_bytes) = (10, 20);
        (a.alias_size_in_bytes, a.temp_size_in_bytes) = (5, 7);
    };

    PJRT_Executable_Serialize, PJRT_Executable_Serialize_Args, |a| at::<Compiled, _>(a.executable), |a, compiled| {
        let bytes = if compiled.world.is(Bend::Nulls) { Vec::new() } else { vec![b'0' + compiled.results as u8] };
        a.serialized_executable = give(Serialized { world: compiled.world.clone(), bytes });
        let (start, length) = told(&compiled.world, &at::<Serialized, _>(a.serialized_executable).bytes);
        (a.serialized_bytes, a.serialized_bytes_size) = (start.cast(), length);
        a.serialized_executable_deleter = Some(free_serialized);
    };

    PJRT_TopologyDescription_Create, PJRT_TopologyDescription_Create_Args, |_a| World::current(), |a, world| {
        if bytes(a.topology_name.cast::<u8>(), a.topology_name_size) != b"fake:2" {
            return Err((PJRT_Error_Code_NOT_FOUND, "no such devices"));
        }
        if !world.is(Bend::NullTopology) {
            let descriptions = (0..2).map(|id| Description::raw(&world, id)).collect();
            a.topology = give(Topology { world: world.clone(), descriptions });
        }
    };

    PJRT_TopologyDescription_Destroy, PJRT_TopologyDescription_Destroy_Args, |a| at::<Topology, _>(a.topology).world.clone(),
    |a, _world| {
        for description in &at::<Topology, _>(a.topology).descriptions {
            take::<Description, _>(*description);
        }
        take::<Topology, _>(a.topology);
    };

    PJRT_TopologyDescription_GetDeviceDescriptions, PJRT_TopologyDescription_GetDeviceDescriptions_Args,
    |a| at::<Topology, _>(a.topology), |a, topology| {
        (a.descriptions, a.num_descriptions) = told(&topology.world, &topology.descriptions);
    };

    PJRT_Compile, PJRT_Compile_Args, |a| at::<Topology, _>(a.topology), |a, topology| {
        let results = read_program(&topology.world, a.program)?;
        if !topology.world.is(Bend::NullCompiled) {
            a.executable = Compiled::raw(&topology.world, ptr::null_mut(), results);
        }
    };
}
