//! A command as it is sent.

use bytes::{BufMut, Bytes, BytesMut};

/// One command, or several that are to follow each other without others between.
///
/// The name and each argument are counted strings, so that no argument can end its command early.
#[derive(Debug, Clone)]
pub struct Command {
    bytes: Bytes,
    replies: usize,
}

// === impl Command ===

impl Command {
    /// A command of a name and arguments.
    pub fn new(parts: &[&[u8]]) -> Self {
        let size = parts.iter().map(|part| part.len() + 16).sum::<usize>() + 16;
        let mut bytes = BytesMut::with_capacity(size);
        write(&mut bytes, parts);
        Self { bytes: bytes.freeze(), replies: 1 }
    }

    /// A command whose parts are all text.
    pub fn words(parts: &[&str]) -> Self {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        Self::new(&parts)
    }

    /// The commands one after the other, as one: they are sent together and answered with a list.
    pub fn all<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Self {
        let (mut bytes, mut replies) = (BytesMut::new(), 0);
        for command in commands {
            bytes.extend_from_slice(&command.bytes);
            replies += command.replies;
        }
        Self { bytes: bytes.freeze(), replies }
    }

    /// What is sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many replies come.
    pub fn replies(&self) -> usize {
        self.replies
    }
}

fn write(out: &mut BytesMut, parts: &[&[u8]]) {
    number(out, b'*', parts.len());
    for part in parts {
        number(out, b'$', part.len());
        out.put_slice(part);
        out.put_slice(b"\r\n");
    }
}

fn number(out: &mut BytesMut, kind: u8, number: usize) {
    let mut digits = [0_u8; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_u8(kind);
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_n1_line_ends_in_an_argument_stay_in_it() {
        let command = Command::new(&[b"GET", b"a\r\n*1\r\n$8\r\nFLUSHALL\r\n"]);
        assert_eq!(&command.bytes()[..], b"*2\r\n$3\r\nGET\r\n$21\r\na\r\n*1\r\n$8\r\nFLUSHALL\r\n\r\n");
    }

    #[test]
    fn several_commands_are_one_after_the_other() {
        let both = Command::all([&Command::words(&["A"]), &Command::words(&["B", ""])]);
        assert_eq!(
            (&both.bytes()[..], both.replies()),
            (&b"*1\r\n$1\r\nA\r\n*2\r\n$1\r\nB\r\n$0\r\n\r\n"[..], 2)
        );
    }
}
