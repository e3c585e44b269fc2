//! What a Redis server, or whoever stands there, may send.
#![no_main]

use tidewire_fuzz::resp::{Command, Frames, Malformed, Value};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let (values, end) = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, usize::from(size).max(1)), (values.clone(), end), "pieces make no difference");

    // What was read can be written, and is the same when read again.
    let mut again = Vec::new();
    values.iter().for_each(|value| write(value, &mut again));
    assert_eq!(read(&again, again.len().max(1)), (values, None));

    // A command is a list of strings, whatever is in them.
    let parts: Vec<&[u8]> = bytes.split(|byte| *byte == b' ').collect();
    let (commands, end) = read(Command::new(&parts).bytes(), usize::MAX);
    let text = |part: &&[u8]| Value::Text(part.to_vec().into());
    assert_eq!((commands, end), (vec![Value::List(parts.iter().map(text).collect())], None));
});

/// All replies of a server that sends `bytes` in pieces of `size`, and why nothing follows, if that is why.
fn read(bytes: &[u8], size: usize) -> (Vec<Value>, Option<Malformed>) {
    let mut frames = Frames::default();
    let mut values = Vec::new();
    for piece in bytes.chunks(size) {
        frames.buffer.extend_from_slice(piece);
        loop {
            let before = frames.buffer.len();
            match frames.next_value() {
                Ok(Some(value)) => {
                    assert!(frames.buffer.len() < before, "a reply takes bytes");
                    values.push(value);
                }
                Ok(None) => break,
                Err(malformed) => return (values, Some(malformed)),
            }
        }
    }
    (values, None)
}

fn write(value: &Value, out: &mut Vec<u8>) {
    let mut line = |head: String, text: &[u8]| {
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    };
    match value {
        Value::Nil => line("_".into(), b""),
        Value::Int(number) => line(format!(":{number}"), b""),
        Value::Text(text) => line(format!("${}\r\n", text.len()), text),
        Value::Error(text) => line(format!("!{}\r\n", text.len()), text),
        Value::List(items) | Value::Push(items) => {
            let kind = if matches!(value, Value::List(_)) { '*' } else { '>' };
            line(format!("{kind}{}", items.len()), b"");
            items.iter().for_each(|item| write(item, out));
        }
    }
}
