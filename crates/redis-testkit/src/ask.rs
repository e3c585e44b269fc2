//! One question to a server.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer, in RESP 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A string, a status, or a number as text.
    Text(String),
    /// An error.
    Error(String),
    /// A list.
    List(Vec<Answer>),
    /// Nothing.
    Nil,
}

// === impl Answer ===

impl Answer {
    /// The text.
    ///
    /// # Panics
    /// If it is none.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("a text was expected: {other:?}"),
        }
    }

    /// The value of a line `name:value`, as INFO answers.
    pub fn info(&self, name: &str) -> &str {
        let value = self.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// Sends one command to a port of this machine.
///
/// # Errors
/// If the server cannot be reached or does not answer within five seconds.
pub fn ask(port: u16, command: &[&str]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut bytes = format!("*{}\r\n", command.len());
    for part in command {
        bytes += &format!("${}\r\n{part}\r\n", part.len());
    }
    stream.write_all(bytes.as_bytes())?;
    read(&mut BufReader::new(stream))
}

fn read(from: &mut impl BufRead) -> io::Result<Answer> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at(1);
    let count = || rest.parse::<i64>().map_err(io::Error::other);
    Ok(match kind {
        "-" => Answer::Error(rest.to_owned()),
        "$" => match usize::try_from(count()?) {
            Err(_) => Answer::Nil,
            Ok(size) => {
                let mut text = vec![0; size + 2];
                from.read_exact(&mut text)?;
                text.truncate(size);
                Answer::Text(String::from_utf8_lossy(&text).into_owned())
            }
        },
        "*" => match usize::try_from(count()?) {
            Err(_) => Answer::Nil,
            Ok(size) => Answer::List((0..size).map(|_| read(from)).collect::<io::Result<_>>()?),
        },
        _ => Answer::Text(rest.to_owned()),
    })
}
