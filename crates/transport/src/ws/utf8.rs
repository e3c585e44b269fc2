//! UTF-8 validation of text that comes in pieces.

use super::Violation;

/// The beginning of a character whose rest is in the next piece.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Utf8 {
    carried: [u8; 4],
    length: u8,
}

impl Utf8 {
    /// Looks at the next piece. Fails at the first byte that no continuation could make valid.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Violation> {
        while self.length > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            self.carry(byte)?;
        }
        match std::str::from_utf8(piece) {
            Ok(_) => Ok(()),
            // No error length: the piece ends inside a character that is valid so far.
            Err(cut) if cut.error_len().is_none() => {
                for &byte in piece.get(cut.valid_up_to()..).unwrap_or_default() {
                    self.carry(byte)?;
                }
                Ok(())
            }
            Err(_) => Err(Violation::InvalidUtf8),
        }
    }

    /// Says whether the text may end here.
    pub(super) fn finish(self) -> Result<(), Violation> {
        if self.length == 0 { Ok(()) } else { Err(Violation::InvalidUtf8) }
    }

    fn carry(&mut self, byte: u8) -> Result<(), Violation> {
        let place = self.carried.get_mut(usize::from(self.length)).ok_or(Violation::InvalidUtf8)?;
        *place = byte;
        self.length = self.length.saturating_add(1);
        let so_far = self.carried.get(..usize::from(self.length)).unwrap_or_default();
        match std::str::from_utf8(so_far) {
            Ok(_) => self.length = 0,
            Err(cut) if cut.error_len().is_none() => {}
            Err(_) => return Err(Violation::InvalidUtf8),
        }
        Ok(())
    }
}
