//! Just enough of RFC 6455 for a server.

use base64::Engine as _;
use sha1::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;

/// Reads bytes up to an empty line; the lines before it. What came behind it stays in `rest`.
pub(crate) async fn head(from: &mut (impl AsyncRead + Unpin), rest: &mut Vec<u8>) -> Option<Vec<String>> {
    loop {
        if let Some(end) = rest.windows(4).position(|end| end == b"\r\n\r\n") {
            let head: Vec<u8> = rest.drain(..end + 4).collect();
            return Some(String::from_utf8(head).unwrap().lines().map(str::to_owned).collect());
        }
        if from.read_buf(rest).await.ok()? == 0 {
            return None;
        }
    }
}

/// The value of a header.
pub(crate) fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let parts = head.iter().filter_map(|line| line.split_once(':'));
    parts.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// The answer to an upgrade: headers in another order and case than elsewhere, more of them, and a list in two lines.
pub(crate) fn upgraded(head: &[String]) -> String {
    let mut hash = sha1::Sha1::new();
    hash.update(header(head, "sec-websocket-key").unwrap());
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.finalize());
    let protocol =
        header(head, "sec-websocket-protocol").map(|name| format!("sec-websocket-protocol:{name}\r\n"));
    format!(
        "HTTP/1.1 101 \r\nserver: another\r\nsec-websocket-accept: {accept}\r\n{}connection: keep-alive\r\n\
         date: Thu, 01 Jan 1970 00:00:00 GMT\r\nCONNECTION: upgrade\r\nUPGRADE: WebSocket\r\n\r\n",
        protocol.unwrap_or_default()
    )
}

/// Reads one frame of a client: its first byte and what it carries.
pub(crate) async fn frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let (first, second) = (from.read_u8().await?, from.read_u8().await?);
    assert!(second & 0x80 != 0 && first & 0x70 == 0, "a client masks and sets no reserved bits");
    let length = match second & 0x7f {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, payload))
}

/// Appends a frame; `first` is its opcode, with 0x80 if it ends its message.
pub(crate) fn append(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        short @ 0..126 => out.push(short as u8),
        medium @ 126..=0xffff => {
            out.push(126);
            out.extend((medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Appends a message in three frames, the first of which may be empty, with a ping between them.
pub(crate) fn append_in_pieces(opcode: u8, message: &[u8], seed: usize, out: &mut Vec<u8>) {
    let (one, rest) = message.split_at(seed * 7 % message.len().max(1));
    let (two, three) = rest.split_at(rest.len() / 3);
    append(opcode, one, out);
    append(0, two, out);
    append(0x80 | PING, b"are you there?", out);
    append(0x80, three, out);
}
