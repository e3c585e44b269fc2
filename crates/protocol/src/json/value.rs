//! How a member of each type is read and written.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::read::Reader;
use super::scan::Fault;
use super::write::{self, Members};
use crate::{EncodeError, FilterNode};

/// A type that members of messages have.
pub(super) trait Value: Default {
    /// Whether `null` is a value of this type. For all others it says what a missing member says.
    const NULL_IS_A_VALUE: bool = false;

    /// Whether items of this type in an array are limited by how they are read.
    const HAS_ITS_OWN_LIMIT: bool = false;

    /// Whether a missing member says the same.
    fn is_absent(&self) -> bool;

    /// Appends the value. On an error `out` may hold a part of it.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault>;
}

/// A message: an object with known members. `table` implements it, and [`Value`] by it, for each.
pub(super) trait Object: Default {
    fn write_members(&self, members: &mut Members<'_>) -> Result<(), EncodeError>;

    /// Reads the value of `key`, or steps over it. `seen` has a bit per member of this object.
    fn read_member(&mut self, key: &str, reader: &mut Reader<'_>, seen: &mut u64) -> Result<(), Fault>;

    fn read_object(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut object = Self::default();
        let mut items = reader.open(b'{')?;
        let mut seen = 0;
        while let Some(key) = reader.key(&mut items)? {
            object.read_member(&key, reader, &mut seen)?;
        }
        Ok(object)
    }

    fn write_object(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut members = Members::open(out);
        self.write_members(&mut members)?;
        members.close();
        Ok(())
    }
}

impl Value for bool {
    fn is_absent(&self) -> bool {
        !self
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.boolean()
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn is_absent(&self) -> bool {
                *self == 0
            }

            fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                write::integer(*self, out);
                Ok(())
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
                reader.integer()
            }
        }
    )*};
}

integers! { u32 u64 i32 i64 }

impl Value for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::string(self, out);
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.string().map(|text| text.into_owned())
    }
}

impl Value for Bytes {
    const NULL_IS_A_VALUE: bool = true;

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::embed(self, out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.payload()
    }
}

impl<T: Value> Value for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Some(value) => value.write(out),
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        T::read(reader).map(Some)
    }
}

impl<T: Value> Value for Box<T> {
    fn is_absent(&self) -> bool {
        T::is_absent(self)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        T::write(self, out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        T::read(reader).map(Box::new)
    }
}

impl<T: Value> Value for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(b'[');
        let mut items = self.iter();
        if let Some(first) = items.next() {
            first.write(out)?;
        }
        for item in items {
            out.push(b',');
            item.write(out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut values = Vec::new();
        let mut items = reader.open(b'[')?;
        while reader.more(&mut items, b']')? {
            if !T::HAS_ITS_OWN_LIMIT {
                reader.count_item()?;
            }
            let value = T::read(reader)?;
            // Of a message that is refused nobody reads the rest, which may be long.
            if !reader.is_refused() {
                values.push(value);
            }
        }
        Ok(values)
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut members = Members::open(out);
        for (key, value) in self {
            members.entry(key, value)?;
        }
        members.close();
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut map = BTreeMap::new();
        let mut items = reader.open(b'{')?;
        while let Some(key) = reader.key(&mut items)? {
            let value = T::read(reader)?;
            if map.insert(key.into_owned(), value).is_some() {
                return reader.fault("a key appears twice");
            }
        }
        Ok(map)
    }
}

/// The one message that holds itself: its depth and size are limited while it is read.
impl Value for FilterNode {
    const HAS_ITS_OWN_LIMIT: bool = true;

    fn is_absent(&self) -> bool {
        false
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.write_object(out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.filter_node(Self::read_object).map(Option::unwrap_or_default)
    }
}
