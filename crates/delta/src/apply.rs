//! Applying a patch that may come from anybody.

use std::fmt;

use crate::format::{checksum, digit_value};

/// What a patch may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest target, in bytes. A patch of a few bytes may announce any size and reach it by copying.
    pub target_bytes_max: usize,
}

/// Why a patch was refused. Nothing of the target is kept.
///
/// `at` is an offset in the patch, in bytes. Applying the same patch to the same source fails again; ask for the whole
/// payload instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeltaError {
    /// A number has no digits or is larger than any size.
    BadNumber {
        /// Where the number should be.
        at: usize,
    },
    /// A number is not followed by what has to stand there.
    UnknownCommand {
        /// Where the number ends.
        at: usize,
    },
    /// The patch ends before its checksum, or within a literal.
    Truncated,
    /// Bytes follow the checksum.
    TrailingBytes {
        /// Where they begin.
        at: usize,
    },
    /// The announced size is above [`Limits::target_bytes_max`].
    TooLarge {
        /// As announced, in bytes.
        size: usize,
        /// As allowed, in bytes.
        max: usize,
    },
    /// A copy goes past the end of the source.
    OutsideSource {
        /// Where its command ends.
        at: usize,
    },
    /// The commands give more or fewer bytes than announced.
    WrongSize {
        /// As the patch says, in bytes.
        announced: usize,
    },
    /// The target has another checksum: patch and source do not belong together, or either is damaged.
    WrongChecksum,
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadNumber { at } => write!(f, "no number that could be a size at byte {at} of the patch"),
            Self::UnknownCommand { at } => write!(f, "no command at byte {at} of the patch"),
            Self::Truncated => f.write_str("the patch ends early"),
            Self::TrailingBytes { at } => write!(f, "the patch goes on behind its end at byte {at}"),
            Self::TooLarge { size, max } => write!(f, "the target is {size} bytes, the limit is {max}"),
            Self::OutsideSource { at } => {
                write!(f, "the copy before byte {at} of the patch leaves the source")
            }
            Self::WrongSize { announced } => {
                write!(f, "the target does not have the {announced} bytes announced")
            }
            Self::WrongChecksum => f.write_str("the target has another checksum than the patch says"),
        }
    }
}

impl std::error::Error for DeltaError {}

/// Returns what `patch` makes of `source`.
///
/// Time is linear in the sizes of patch and target. Nothing larger than `limits` allows is allocated.
///
/// # Errors
/// Any [`DeltaError`]: the patch is malformed, too large, or meant for another source.
pub fn apply(source: &[u8], patch: &[u8], limits: Limits) -> Result<Vec<u8>, DeltaError> {
    let mut reader = Reader { patch, at: 0 };
    let size = reader.number()?;
    reader.expect(b'\n')?;
    if size > limits.target_bytes_max {
        return Err(DeltaError::TooLarge { size, max: limits.target_bytes_max });
    }
    // What is announced may be a lie. Both inputs together are what an honest patch rarely exceeds.
    let mut target = Vec::with_capacity(size.min(source.len().saturating_add(patch.len())));
    loop {
        let number = reader.number()?;
        let bytes = match reader.command()? {
            b'@' => {
                let offset = reader.number()?;
                reader.expect(b',')?;
                let from = source.get(offset..).and_then(|from| from.get(..number));
                from.ok_or(DeltaError::OutsideSource { at: reader.at })?
            }
            b':' => reader.bytes(number)?,
            b';' => return finish(reader, target, size, number),
            _ => return Err(DeltaError::UnknownCommand { at: reader.at - 1 }),
        };
        if bytes.len() > size - target.len() {
            return Err(DeltaError::WrongSize { announced: size });
        }
        target.extend_from_slice(bytes);
    }
}

/// Checks what can only be checked at the end.
fn finish(reader: Reader, target: Vec<u8>, size: usize, sum: usize) -> Result<Vec<u8>, DeltaError> {
    if reader.at < reader.patch.len() {
        return Err(DeltaError::TrailingBytes { at: reader.at });
    }
    if target.len() != size {
        return Err(DeltaError::WrongSize { announced: size });
    }
    if checksum(&target) as usize != sum {
        return Err(DeltaError::WrongChecksum);
    }
    Ok(target)
}

/// Reads a patch front to back.
struct Reader<'a> {
    patch: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A number of at least one digit.
    fn number(&mut self) -> Result<usize, DeltaError> {
        let begin = self.at;
        let mut number: usize = 0;
        while let Some(value) = self.patch.get(self.at).copied().and_then(digit_value) {
            if number > usize::MAX >> 6 {
                return Err(DeltaError::BadNumber { at: begin });
            }
            number = number << 6 | usize::from(value);
            self.at += 1;
        }
        match self.at {
            at if at > begin => Ok(number),
            at if at == self.patch.len() => Err(DeltaError::Truncated),
            _ => Err(DeltaError::BadNumber { at: begin }),
        }
    }

    /// The byte that says what the number before it means.
    fn command(&mut self) -> Result<u8, DeltaError> {
        let command = self.patch.get(self.at).copied().ok_or(DeltaError::Truncated)?;
        self.at += 1;
        Ok(command)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), DeltaError> {
        if self.command()? == wanted { Ok(()) } else { Err(DeltaError::UnknownCommand { at: self.at - 1 }) }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], DeltaError> {
        let bytes = self.patch[self.at..].get(..count).ok_or(DeltaError::Truncated)?;
        self.at += count;
        Ok(bytes)
    }
}
