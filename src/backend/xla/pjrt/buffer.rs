//! Arrays on a device, and events.

// Foreign calls, by the rules of `api`. Beside them: a `Buffer` and an `Event` own what they point to and destroy it once, and keep
// their client alive until then.
#![allow(unsafe_code)]
// Half of a file's types come from there, by names that no other place has.
#![allow(clippy::wildcard_imports)]

use std::ffi::c_void;
use std::mem::size_of;

use crate::backend::program::Element;
use crate::backend::xla::pjrt::api::{MOST_LISTED, call, destroy, list, padded};
use crate::backend::xla::pjrt::client::Client;
use crate::backend::xla::pjrt::sys::*;
use crate::backend::xla::pjrt::{PjrtError, Result};

/// The header's number of each type.
const CODES: [(Element, PJRT_Buffer_Type); 5] = [
    (Element::F32, PJRT_Buffer_Type_F32),
    (Element::Bf16, PJRT_Buffer_Type_BF16),
    (Element::F16, PJRT_Buffer_Type_F16),
    (Element::F64, PJRT_Buffer_Type_F64),
    (Element::I32, PJRT_Buffer_Type_S32),
];

pub(super) fn code(element: Element) -> PJRT_Buffer_Type {
    CODES.iter().find(|row| row.0 == element).expect("every type has a row").1
}

fn coded(code: PJRT_Buffer_Type) -> Option<Element> {
    CODES.iter().find(|row| row.1 == code).map(|row| row.0)
}

/// Something that will have happened.
pub struct Event {
    client: Client,
    raw: *mut PJRT_Event,
}

// SAFETY: events may be waited for and destroyed on any thread (PJRT's contract).
unsafe impl Send for Event {}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Event")
    }
}

impl Event {
    /// Takes what a plugin gave; null has already happened.
    pub(super) fn of(client: &Client, raw: *mut PJRT_Event) -> Self {
        Self { client: client.clone(), raw }
    }

    /// Waits until it has happened; the error of what it stands for, also of what is over.
    pub fn wait(&self) -> Result<()> {
        if self.raw.is_null() {
            return Ok(());
        }
        let mut arguments = padded::<PJRT_Event_Await_Args>();
        arguments.args.event = self.raw;
        call!(self.client.plugin(), PJRT_Event_Await, arguments)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            destroy!(self.client.plugin(), PJRT_Event_Destroy, PJRT_Event_Destroy_Args, event, self.raw);
        }
    }
}

/// An array on a device.
pub struct Buffer {
    client: Client,
    raw: *mut PJRT_Buffer,
}

// SAFETY: buffers may be used and destroyed on any thread (PJRT's contract).
unsafe impl Send for Buffer {}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buffer")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        destroy!(self.client.plugin(), PJRT_Buffer_Destroy, PJRT_Buffer_Destroy_Args, buffer, self.raw);
    }
}

impl Buffer {
    /// Takes what a plugin gave.
    pub(super) fn of(client: &Client, raw: *mut PJRT_Buffer) -> Result<Self> {
        if raw.is_null() {
            return Err(PjrtError::Contract("it gives no buffer".to_owned()));
        }
        Ok(Self { client: client.clone(), raw })
    }

    pub(super) const fn raw(&self) -> *mut PJRT_Buffer {
        self.raw
    }

    pub(super) fn belongs_to(&self, client: &Client) -> bool {
        self.client.is(client)
    }

    /// Element type; nothing for one that is not in [`Element`].
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn element(&self) -> Result<Option<Element>> {
        let mut arguments = padded::<PJRT_Buffer_ElementType_Args>();
        arguments.args.buffer = self.raw;
        call!(self.client.plugin(), PJRT_Buffer_ElementType, arguments)?;
        Ok(coded(arguments.args.type_))
    }

    /// Sizes, slowest first.
    ///
    /// # Errors
    /// As the plugin refuses.
    pub fn shape(&self) -> Result<Vec<i64>> {
        let mut arguments = padded::<PJRT_Buffer_Dimensions_Args>();
        arguments.args.buffer = self.raw;
        call!(self.client.plugin(), PJRT_Buffer_Dimensions, arguments)?;
        // SAFETY: told of this buffer just now.
        Ok(unsafe { list(arguments.args.dims, arguments.args.num_dims, MOST_LISTED) }?.to_vec())
    }

    /// Waits until it has its values.
    ///
    /// # Errors
    /// Of what was to make them.
    pub fn wait(&self) -> Result<()> {
        let mut arguments = padded::<PJRT_Buffer_ReadyEvent_Args>();
        arguments.args.buffer = self.raw;
        call!(self.client.plugin(), PJRT_Buffer_ReadyEvent, arguments)?;
        Event::of(&self.client, arguments.args.event).wait()
    }

    /// Its values, dense and row by row, after the device's own layout.
    ///
    /// # Errors
    /// As the plugin refuses, or where it would give another number of bytes than the shape has.
    pub fn download(&self) -> Result<Vec<u8>> {
        let shape = self.shape()?;
        let element = self
            .element()?
            .ok_or_else(|| PjrtError::Contract("an output has a type that programs here do not have".to_owned()))?;
        let bytes = element
            .bytes_of(&shape)
            .ok_or_else(|| PjrtError::Contract(format!("an output has the shape {shape:?}")))?;
        let order: Vec<i64> = (0..shape.len() as i64).rev().collect();
        let mut layout = PJRT_Buffer_MemoryLayout {
            struct_size: size_of::<PJRT_Buffer_MemoryLayout>(),
            type_: PJRT_Buffer_MemoryLayout_Type_Tiled,
            ..PJRT_Buffer_MemoryLayout::default()
        };
        layout.__bindgen_anon_1.tiled = PJRT_Buffer_MemoryLayout_Tiled {
            struct_size: size_of::<PJRT_Buffer_MemoryLayout_Tiled>(),
            minor_to_major: order.as_ptr(),
            minor_to_major_size: order.len(),
            ..PJRT_Buffer_MemoryLayout_Tiled::default()
        };
        let mut arguments = padded::<PJRT_Buffer_ToHostBuffer_Args>();
        arguments.args.src = self.raw;
        arguments.args.host_layout = &raw mut layout;
        // The first call asks for the size, the second copies.
        call!(self.client.plugin(), PJRT_Buffer_ToHostBuffer, arguments)?;
        if arguments.args.dst_size != bytes {
            return Err(PjrtError::Contract(format!(
                "an output of {shape:?} {} is {bytes} bytes, and it would write {}",
                element.name(),
                arguments.args.dst_size
            )));
        }
        let mut values = vec![0_u8; bytes];
        arguments.args.dst = values.as_mut_ptr().cast::<c_void>();
        call!(self.client.plugin(), PJRT_Buffer_ToHostBuffer, arguments)?;
        Event::of(&self.client, arguments.args.event).wait()?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_number_of_its_own() {
        for element in Element::ALL {
            assert_eq!(coded(code(element)), Some(element));
        }
    }
}
