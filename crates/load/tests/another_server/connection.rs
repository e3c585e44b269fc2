//! One client of the server.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::broker::Broker;
use super::protocol::{Ask, Manner, PERSONAL, Publication, Tell};
use super::{json, protobuf, ws};

/// Between two pings of the protocol, as the connect reply says in seconds.
const PING_EVERY: Duration = Duration::from_secs(1);

struct Writer {
    socket: OwnedWriteHalf,
    broker: Arc<Broker>,
    manner: Manner,
    is_protobuf: bool,
    personal: u64,
}

/// Serves a client until it leaves.
pub(crate) async fn serve(mut socket: TcpStream, number: usize, broker: Arc<Broker>) {
    socket.set_nodelay(true).unwrap();
    let mut rest = Vec::new();
    let Some(head) = ws::head(&mut socket, &mut rest).await else { return };
    let is_protobuf = ws::header(&head, "sec-websocket-protocol") == Some("centrifuge-protobuf");
    let (from, to) = socket.into_split();
    let mut from = std::io::Cursor::new(rest).chain(from);
    let manner = Manner(number);
    let mut writer = Writer { socket: to, broker: Arc::clone(&broker), manner, is_protobuf, personal: 70 };
    if writer.socket.write_all(ws::upgraded(&head).as_bytes()).await.is_err() {
        return;
    }
    let (sender, receiver) = unbounded_channel();
    let writing = tokio::spawn(writer.run(receiver));
    // Either end may leave at any moment.
    while let Ok((first, message)) = ws::frame(&mut from).await {
        let asks = match first & 0x0f {
            ws::CLOSE => break,
            ws::TEXT => json::asks(&message),
            ws::BINARY => protobuf::asks(&message),
            _ => continue,
        };
        if !asks.into_iter().all(|ask| answer(ask, number, &sender, &broker)) {
            break;
        }
    }
    broker.leave(number);
    drop(sender);
    writing.abort();
}

/// Does what a client asks for. Returns whether it may stay.
fn answer(ask: Ask, number: usize, sender: &UnboundedSender<Tell>, broker: &Broker) -> bool {
    let manner = Manner(number);
    let tell = match ask {
        Ask::Connect { id, token } if token.is_empty() => Tell::Refused { id, code: 109 },
        Ask::Connect { id, .. } => Tell::Connected { id, manner },
        Ask::Subscribe { id, channel, since } => {
            broker.subscribe((number, sender), (id, &channel), since, manner);
            return true;
        }
        Ask::Publish { id, channel, data } => {
            broker.publish(&channel, &data);
            Tell::Published { id }
        }
        Ask::Pong => {
            broker.count(|counts| counts.pongs += 1);
            broker.count(|counts| counts.uninvited_pongs += u64::from(!manner.wants_pongs()));
            return manner.wants_pongs();
        }
    };
    sender.send(tell).is_ok()
}

// === impl Writer ===

impl Writer {
    async fn run(mut self, mut tells: UnboundedReceiver<Tell>) {
        // Not all at once.
        let first = PING_EVERY / 2 + PING_EVERY / 20 * (self.manner.0 % 10) as u32;
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + first, PING_EVERY);
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                received = tells.recv_many(&mut batch, 1) => match received {
                    0 => return,
                    _ => self.gather(&mut batch, &mut tells).await,
                },
                _ = pings.tick() => batch.push(Tell::Ping),
            }
            let mut out = Vec::new();
            for tells in batch.chunks(self.manner.gathers()) {
                self.append(tells, &mut out);
            }
            if self.socket.write_all(&out).await.is_err() {
                return;
            }
        }
    }

    /// Takes what comes soon, and adds what the client gets without having asked.
    async fn gather(&mut self, batch: &mut Vec<Tell>, tells: &mut UnboundedReceiver<Tell>) {
        tokio::time::sleep(self.broker.gathers_for()).await;
        while let Ok(tell) = tells.try_recv() {
            batch.push(tell);
        }
        if let (true, Some(Tell::Publication { .. })) = (self.manner.has_personal_channel(), batch.last()) {
            self.personal += 1;
            self.broker.count(|counts| counts.personal += 1);
            let data = b"{\"text\":\"for you alone\"}".to_vec();
            let publication = Publication { offset: Some(self.personal), data };
            batch.push(Tell::Publication { channel: PERSONAL.into(), publication });
            batch.push(Tell::Join { channel: PERSONAL.into() });
            let channel = format!("#guest{}", self.personal);
            batch.push(Tell::Given { channel: channel.clone(), offset: 4 });
            let publication = Publication { offset: Some(5), data: b"\"welcome\"".to_vec() };
            batch.push(Tell::Publication { channel: channel.clone(), publication });
            batch.push(Tell::Taken { channel });
        }
    }

    /// Appends one message that holds all of these.
    fn append(&self, tells: &[Tell], out: &mut Vec<u8>) {
        if let ([Tell::Ping], false) = (tells, self.manner.pings()) {
            return ws::append(0x80 | ws::PING, b"ping", out);
        }
        let message = if self.is_protobuf {
            tells.iter().flat_map(|tell| protobuf::tell(tell, self.manner)).collect()
        } else {
            let lines: Vec<String> = tells.iter().map(|tell| json::tell(tell, self.manner)).collect();
            // A newline at the end is allowed.
            (lines.join("\n") + if self.manner.reverses() { "\n" } else { "" }).into_bytes()
        };
        let opcode = if self.is_protobuf { ws::BINARY } else { ws::TEXT };
        match self.manner.fragments() {
            true => ws::append_in_pieces(opcode, &message, self.manner.0, out),
            false => ws::append(0x80 | opcode, &message, out),
        }
        self.broker.count(|counts| {
            counts.frames += 1;
            counts.gathered += u64::from(tells.len() > 1);
            counts.fragmented += u64::from(self.manner.fragments());
        });
    }
}
