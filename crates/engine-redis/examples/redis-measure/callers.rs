//! What any client costs that many callers share, each of which waits for its own answer: the plain client with a queue.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

use crate::plain::length;

/// A handle on a connection that lasts as long as the runtime.
#[derive(Default)]
pub(crate) struct Callers {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    out: Vec<u8>,
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Callers {
    pub(crate) async fn connect(port: u16) -> Arc<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shared = Arc::<Self>::default();
        tokio::spawn(drive(Arc::clone(&shared), stream));
        shared
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn call(&self, command: &[u8]) {
        let (to, answer) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            queue.out.extend_from_slice(command);
            queue.waiting.push_back(to);
        }
        self.wake.notify_one();
        answer.await.unwrap();
    }
}

async fn drive(shared: Arc<Callers>, mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let (mut buffer, mut filled) = (vec![0; 1 << 16], 0);
    let mut out = Vec::new();
    loop {
        tokio::select! {
            read = reader.read(&mut buffer[filled..]) => {
                // Ends with the server, after the last turn.
                let Ok(read @ 1..) = read else { return };
                filled += read;
                let mut at = 0;
                let mut queue = shared.queue.lock();
                while let Some(length) = length(&buffer[at..filled]) {
                    assert!(buffer[at] != b'-', "{}", String::from_utf8_lossy(&buffer[at..at + length]));
                    let _ = queue.waiting.pop_front().unwrap().send(());
                    at += length;
                }
                drop(queue);
                buffer.copy_within(at..filled, 0);
                filled -= at;
            }
            () = shared.wake.notified() => {
                // Who else is about to send comes first.
                tokio::task::yield_now().await;
                std::mem::swap(&mut out, &mut shared.queue.lock().out);
                writer.write_all(&out).await.unwrap();
                out.clear();
            }
        }
    }
}
