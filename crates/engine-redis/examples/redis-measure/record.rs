//! What the engine sends, as the server has seen it.

use crate::plain::{Plain, command};

/// Ends a recording.
const END: &str = "redis-measure: recorded";

/// The commands of this name that the server is sent during `run`, as bytes to send again.
pub(crate) fn recorded(port: u16, name: &str, run: impl FnOnce()) -> Vec<Vec<u8>> {
    let mut monitor = Plain::connect(port);
    monitor.ask(&[b"MONITOR"]);
    run();
    Plain::connect(port).ask(&[b"PING", END.as_bytes()]);
    let mut commands = Vec::new();
    let mut ended = false;
    while !ended {
        monitor.each(|line| {
            let line = std::str::from_utf8(line).unwrap();
            // `+time [database client] "word" …`; what scripts call has no client.
            let Some((head, words)) = line.split_once("] ") else { return };
            let words = words_of(words);
            ended |= words.iter().any(|word| word == END.as_bytes());
            if !head.ends_with(" lua") && words[0].eq_ignore_ascii_case(name.as_bytes()) {
                commands.push(command(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            }
        });
    }
    assert!(!commands.is_empty(), "the engine has sent no {name}");
    commands
}

/// Reads words in quotes, with escapes as in C.
fn words_of(text: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = text.bytes();
    while bytes.any(|byte| byte == b'"') {
        let mut word = Vec::new();
        loop {
            match bytes.next().unwrap() {
                b'"' => break,
                b'\\' => word.push(match bytes.next().unwrap() {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                }),
                byte => word.push(byte),
            }
        }
        words.push(word);
    }
    words
}
