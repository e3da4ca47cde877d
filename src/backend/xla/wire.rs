//! Messages in protobuf's wire format (protobuf.dev/programming-guides/encoding): fields by number.
//!
//! Must not know what the messages mean.

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field<'b> {
    /// Its number in the schema.
    pub number: u64,
    /// What it holds.
    pub value: Value<'b>,
}

/// What a field holds, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'b> {
    /// A varint.
    Number(u64),
    /// Eight bytes as a double; integers of fixed width are not told apart.
    Double(f64),
    /// A text, bytes or a message.
    Bytes(&'b [u8]),
    /// Of four bytes: none is looked at.
    Other,
}

impl<'b> Field<'b> {
    /// The bytes of the field of this number.
    pub fn within(&self, number: u64) -> Option<&'b [u8]> {
        match self.value {
            Value::Bytes(bytes) if self.number == number => Some(bytes),
            _ => None,
        }
    }
}

/// The fields of a message, up to where it is whole.
pub fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => Value::Double(f64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => take(&mut bytes, 4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some(Field { number: key >> 3, value })
    })
}

/// The bytes of every field of this number.
pub fn all(bytes: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(bytes).filter_map(move |field| field.within(number))
}

/// The value of the first field of this number.
pub fn first(bytes: &[u8], number: u64) -> Option<Value<'_>> {
    fields(bytes).find(|field| field.number == number).map(|field| field.value)
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let [byte] = take(bytes, 1)? else { return None };
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends a field with a number.
pub fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

/// Appends a field with a double.
pub fn put_double(out: &mut Vec<u8>, field: u64, value: f64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field with a text, bytes or a message.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Fields one by one, as tests put messages together.
#[cfg(test)]
pub mod build {
    use super::{put_bytes, put_double, put_number};

    /// A field with a number.
    pub fn number(field: u64, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, field, value);
        out
    }

    /// A field with a double.
    pub fn double(field: u64, value: f64) -> Vec<u8> {
        let mut out = Vec::new();
        put_double(&mut out, field, value);
        out
    }

    /// A field with a text.
    pub fn text(field: u64, text: &str) -> Vec<u8> {
        message(field, &[text.as_bytes().to_vec()])
    }

    /// A field with a message of these fields.
    pub fn message(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, field, &parts.concat());
        out
    }
}
