//! Patches that turn one payload into the next, in the delta format of Fossil SCM.
//!
//! `create`: payload and its predecessor to patch. `apply`: patch and predecessor to payload, for bytes of strangers.
//! `index`: where the 16-byte blocks of a source are. `compare`: how far two runs of bytes agree. `format`: numbers and
//! the checksum. Pure: no I/O, no clock, nothing kept between calls, no panic on any input.
//!
//! A patch is the target's size and a newline, then commands, then the target's checksum and `;`:
//!
//! ```text
//! <size>\n              size of the target, in bytes
//! <count>@<offset>,     copy `count` bytes of the source from `offset`
//! <count>:<bytes>       the next `count` bytes of the target, literally
//! <checksum>;           end
//! ```
//!
//! Numbers are big-endian digits of base 64 over `0-9A-Z_a-z~`. The checksum is the sum of the target's big-endian
//! 32-bit words, the last one padded with zeros, modulo 2^32. Published as "Fossil Delta Format".
//!
//! ```
//! let (old, new) = (br#"{"price": 100, "currency": "EUR"}"#, br#"{"price": 101, "currency": "EUR"}"#);
//! let mut patch = Vec::new();
//! tidewire_delta::create(old, new, &mut patch);
//! let limits = tidewire_delta::Limits { target_bytes_max: 1 << 16 };
//! assert_eq!(tidewire_delta::apply(old, &patch, limits)?, new);
//! # Ok::<(), tidewire_delta::DeltaError>(())
//! ```

mod apply;
mod compare;
mod create;
mod format;
mod index;

pub use apply::{DeltaError, Limits, apply};
pub use create::{create, create_bounded};
