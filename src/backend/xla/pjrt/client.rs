//! A plugin's client: the devices of this process, and uploads to them.

// Foreign calls, by the rules of `api`. Beside them: a client is destroyed once, after everything that holds it is gone; its devices
// live as long as it does.
#![allow(unsafe_code)]
// Half of a file's types come from there, by names that no other place has.
#![allow(clippy::wildcard_imports)]

use std::ffi::c_void;
use std::sync::Arc;

use crate::backend::program::Element;
use crate::backend::xla::pjrt::api::{
    MOST_LISTED, Plugin, Value, call, destroy, list, named_values, padded, text, to_named, truth,
};
use crate::backend::xla::pjrt::buffer::{Buffer, Event, code};
use crate::backend::xla::pjrt::sys::*;
use crate::backend::xla::pjrt::{PjrtError, Result};

struct Inner {
    plugin: Plugin,
    raw: *mut PJRT_Client,
}

// SAFETY: clients may be used from any thread (PJRT's contract).
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        destroy!(self.plugin, PJRT_Client_Destroy, PJRT_Client_Destroy_Args, client, self.raw);
    }
}

/// A connection to the devices of a plugin.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// A device of a client, which it keeps alive.
#[derive(Debug, Clone)]
pub struct Device {
    client: Client,
    raw: DevicePointer,
}

#[derive(Debug, Clone, Copy)]
struct DevicePointer(*mut PJRT_Device);

// SAFETY: devices may be used from any thread (PJRT's contract).
unsafe impl Send for DevicePointer {}

/// What a device, here or not, says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Number in the topology.
    pub id: i32,
    /// Vendor's name: `cpu`, `NVIDIA H100 80GB HBM3`, `TPU v5 lite`.
    pub kind: String,
    /// Coordinates, cores, memory and the like, as far as it tells.
    pub attributes: Vec<(String, Value)>,
}

impl Plugin {
    /// Connects to the devices.
    ///
    /// # Errors
    /// Where there is none, or the plugin refuses the options.
    pub fn client(&self, options: &[(String, Value)]) -> Result<Client> {
        let named = to_named(options);
        let mut arguments = padded::<PJRT_Client_Create_Args>();
        arguments.args.create_options = named.as_ptr();
        arguments.args.num_options = named.len();
        call!(self, PJRT_Client_Create, arguments)?;
        if arguments.args.client.is_null() {
            return Err(PjrtError::Contract("it gives no client".to_owned()));
        }
        Ok(Client(Arc::new(Inner { plugin: self.clone(), raw: arguments.args.client })))
    }

    /// What a description says.
    pub(super) fn described(&self, description: *mut PJRT_DeviceDescription) -> Result<Description> {
        if description.is_null() {
            return Err(PjrtError::Contract("it does not describe a device".to_owned()));
        }
        let mut id = padded::<PJRT_DeviceDescription_Id_Args>();
        id.args.device_description = description;
        call!(self, PJRT_DeviceDescription_Id, id)?;
        let mut kind = padded::<PJRT_DeviceDescription_Kind_Args>();
        kind.args.device_description = description;
        call!(self, PJRT_DeviceDescription_Kind, kind)?;
        let mut attributes = padded::<PJRT_DeviceDescription_Attributes_Args>();
        attributes.args.device_description = description;
        call!(self, PJRT_DeviceDescription_Attributes, attributes)?;
        Ok(Description {
            id: id.args.id,
            // SAFETY: told of this description just now.
            kind: unsafe { text(kind.args.device_kind, kind.args.device_kind_size) }?,
            // SAFETY: as above.
            attributes: unsafe { named_values(attributes.args.attributes, attributes.args.num_attributes) }?,
        })
    }
}

impl Client {
    pub(super) fn plugin(&self) -> &Plugin {
        &self.0.plugin
    }

    pub(super) fn raw(&self) -> *mut PJRT_Client {
        self.0.raw
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Name and version of the platform: `cuda`, `PJRT C API …`.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn platform(&self) -> Result<(String, String)> {
        let mut name = padded::<PJRT_Client_PlatformName_Args>();
        name.args.client = self.raw();
        call!(self.plugin(), PJRT_Client_PlatformName, name)?;
        let mut version = padded::<PJRT_Client_PlatformVersion_Args>();
        version.args.client = self.raw();
        call!(self.plugin(), PJRT_Client_PlatformVersion, version)?;
        Ok((
            // SAFETY: told of this client just now.
            unsafe { text(name.args.platform_name, name.args.platform_name_size) }?,
            // SAFETY: as above.
            unsafe { text(version.args.platform_version, version.args.platform_version_size) }?,
        ))
    }

    /// Devices that this process can use.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let mut arguments = padded::<PJRT_Client_AddressableDevices_Args>();
        arguments.args.client = self.raw();
        call!(self.plugin(), PJRT_Client_AddressableDevices, arguments)?;
        let (start, count) = (arguments.args.addressable_devices, arguments.args.num_addressable_devices);
        // SAFETY: told of this client just now.
        unsafe { list(start, count, MOST_LISTED) }?
            .iter()
            .map(|raw| {
                if raw.is_null() {
                    return Err(PjrtError::Contract("it lists a device that is none".to_owned()));
                }
                Ok(Device { client: self.clone(), raw: DevicePointer(*raw) })
            })
            .collect()
    }
}

impl Device {
    /// What it says of itself.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn description(&self) -> Result<Description> {
        let plugin = self.client.plugin();
        let mut arguments = padded::<PJRT_Device_GetDescription_Args>();
        arguments.args.device = self.raw.0;
        call!(plugin, PJRT_Device_GetDescription, arguments)?;
        plugin.described(arguments.args.device_description)
    }

    /// The number by which the vendor's tools know it.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn local_id(&self) -> Result<i32> {
        let mut arguments = padded::<PJRT_Device_LocalHardwareId_Args>();
        arguments.args.device = self.raw.0;
        call!(self.client.plugin(), PJRT_Device_LocalHardwareId, arguments)?;
        Ok(arguments.args.local_hardware_id)
    }

    /// Most bytes that were ever taken of its memory; nothing where it does not count that.
    ///
    /// # Errors
    /// As the plugin refuses; platforms without an allocator that counts do not offer it.
    pub fn peak_memory(&self) -> Result<Option<i64>> {
        let mut arguments = padded::<PJRT_Device_MemoryStats_Args>();
        arguments.args.device = self.raw.0;
        call!(self.client.plugin(), PJRT_Device_MemoryStats, arguments)?;
        // SAFETY: a field of a struct that was zeroed.
        let is_set = unsafe { truth(&raw const arguments.args.peak_bytes_in_use_is_set) };
        Ok(is_set.then_some(arguments.args.peak_bytes_in_use))
    }

    /// Copies an array there, dense and row by row, and waits for it.
    ///
    /// # Errors
    /// When the bytes are not those of the shape, or the device has no room.
    pub fn upload(&self, element: Element, shape: &[i64], values: &[u8]) -> Result<Buffer> {
        if element.bytes_of(shape) != Some(values.len()) {
            let name = element.name();
            return Err(PjrtError::Argument(format!("{} bytes are no array of {shape:?} {name}", values.len())));
        }
        let mut arguments = padded::<PJRT_Client_BufferFromHostBuffer_Args>();
        arguments.args.client = self.client.raw();
        arguments.args.data = values.as_ptr().cast::<c_void>();
        arguments.args.type_ = code(element);
        arguments.args.dims = shape.as_ptr();
        arguments.args.num_dims = shape.len();
        // The plugin has copied the values when the call returns.
        arguments.args.host_buffer_semantics = PJRT_HostBufferSemantics_kImmutableOnlyDuringCall;
        arguments.args.device = self.raw.0;
        call!(self.client.plugin(), PJRT_Client_BufferFromHostBuffer, arguments)?;
        let done = Event::of(&self.client, arguments.args.done_with_host_buffer);
        let buffer = Buffer::of(&self.client, arguments.args.buffer)?;
        done.wait()?;
        Ok(buffer)
    }
}
