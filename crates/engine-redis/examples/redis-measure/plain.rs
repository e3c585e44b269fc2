//! The floor: one connection, commands as bytes, answers only counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than that nothing takes unless it has gone wrong.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Plain {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where what has not been read ends.
    filled: usize,
}

impl Plain {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: vec![0; 1 << 16], filled: 0 }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Waits for answers or messages; how many came.
    pub(crate) fn count(&mut self) -> usize {
        let mut count = 0;
        while count == 0 {
            self.each(|_| count += 1);
        }
        count
    }

    /// Waits for bytes, and takes what is whole of them.
    pub(crate) fn each(&mut self, mut take: impl FnMut(&[u8])) {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.filled..]).unwrap();
        assert!(read > 0, "the server has closed the connection");
        self.filled += read;
        let mut at = 0;
        while let Some(length) = length(&self.buffer[at..self.filled]) {
            let whole = &self.buffer[at..at + length];
            assert!(whole[0] != b'-', "{}", String::from_utf8_lossy(whole));
            take(whole);
            at += length;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
    }

    /// One command and its answer.
    pub(crate) fn ask(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        self.send(&command(parts));
        let mut answer = Vec::new();
        while answer.is_empty() {
            self.each(|whole| answer.extend_from_slice(whole));
        }
        answer
    }

    /// Processor time of the server so far.
    pub(crate) fn server_used(&mut self) -> Duration {
        let text = String::from_utf8(self.ask(&[b"INFO", b"cpu"])).unwrap();
        let seconds = |name: &str| -> f64 {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
        };
        Duration::from_secs_f64(seconds("used_cpu_user:") + seconds("used_cpu_sys:"))
    }
}

/// A command as bytes.
pub(crate) fn command(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// How many bytes the first value has, if it is whole. RESP2.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).unwrap().parse::<i64>().unwrap();
    match bytes[0] {
        b'$' => {
            let Ok(size) = usize::try_from(number()) else { return Some(end) };
            (bytes.len() >= end + size + 2).then_some(end + size + 2)
        }
        b'*' => {
            let mut at = end;
            for _ in 0..number().max(0) {
                at += length(&bytes[at..])?;
            }
            Some(at)
        }
        _ => Some(end),
    }
}
