//! A proxy between clients and server that tells one lie about publications.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What is done to the publications of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// The third one is left out.
    Drop,
    /// The third one comes twice.
    Double,
    /// The third one comes after the fourth.
    Swap,
    /// One letter of the third one is changed.
    Alter,
    /// Nothing.
    None,
}

/// Starts a proxy that lies on every connection; it lives as long as the runtime.
pub(crate) async fn start(server: SocketAddr, lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(copy(from_client, to_server));
            tokio::spawn(relay(from_server, to_client, lie));
        }
    });
    address
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    // Either end may leave at any moment.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lie: Lie) {
    let mut input = Vec::new();
    let mut liar = Liar { lie, publications: 0, held: Vec::new(), is_upgraded: false };
    while from.read_buf(&mut input).await.is_ok_and(|bytes| bytes > 0) {
        let mut output = Vec::new();
        while let Some(length) = liar.unit(&input) {
            let unit: Vec<u8> = input.drain(..length).collect();
            liar.pass(unit, &mut output);
        }
        if to.write_all(&output).await.is_err() {
            return;
        }
    }
}

struct Liar {
    lie: Lie,
    publications: u32,
    held: Vec<u8>,
    is_upgraded: bool,
}

impl Liar {
    /// Length of the HTTP head or the frame that `input` begins with, if it is complete.
    fn unit(&self, input: &[u8]) -> Option<usize> {
        if !self.is_upgraded {
            return input.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        }
        let length = match *input.get(1)? {
            126 => 4 + usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?])),
            short => 2 + usize::from(short),
        };
        (input.len() >= length).then_some(length)
    }

    fn pass(&mut self, mut unit: Vec<u8>, output: &mut Vec<u8>) {
        self.is_upgraded = true;
        let is_publication = unit.windows(5).any(|part| part == b"\"pub\"");
        self.publications += u32::from(is_publication);
        match (is_publication, self.publications, self.lie) {
            (true, 3, Lie::Drop) => {}
            (true, 3, Lie::Double) => output.extend([&unit[..], &unit].concat()),
            (true, 3, Lie::Swap) => self.held = unit,
            (true, 4, Lie::Swap) => output.extend([&unit[..], &std::mem::take(&mut self.held)].concat()),
            (true, 3, Lie::Alter) => {
                // A letter of the filler: the frame stays what it is.
                let filler = unit.windows(5).position(|part| part == b"\"x\":\"").unwrap();
                unit[filler + 5] = b'!';
                output.extend(unit);
            }
            _ => output.extend(unit),
        }
    }
}
