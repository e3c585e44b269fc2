//! The server on a thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::broker::{Broker, Counts, Lie};
use super::{api, connection};

/// A server that serves until it is dropped.
pub(crate) struct Server {
    broker: Arc<Broker>,
    clients: SocketAddr,
    api: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(lie: Lie) -> Self {
        let broker = Arc::new(Broker::new(lie));
        let (stop, stopped) = oneshot::channel();
        let (told, addresses) = channel();
        let of_server = Arc::clone(&broker);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listen = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
                let (clients, api) = (listen().await, listen().await);
                told.send((clients.local_addr().unwrap(), api.local_addr().unwrap())).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = accept(clients, api, of_server) => {}
                }
            });
        });
        let (clients, api) = addresses.recv().unwrap();
        Self { broker, clients, api, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn websocket(&self) -> String {
        format!("ws://{}/connection/websocket?from=a%20test", self.clients)
    }

    pub(crate) fn api(&self) -> String {
        format!("http://{}/under/api/", self.api)
    }

    /// The same API, which closes connections without a word when they are idle.
    pub(crate) fn closing_api(&self) -> String {
        format!("http://{}{}api", self.api, api::CLOSING)
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.broker.counts.lock().unwrap()
    }
}

async fn accept(clients: TcpListener, api: TcpListener, broker: Arc<Broker>) {
    for number in 0.. {
        tokio::select! {
            client = clients.accept() => {
                tokio::spawn(connection::serve(client.unwrap().0, number, Arc::clone(&broker)));
            }
            caller = api.accept() => {
                tokio::spawn(api::serve(caller.unwrap().0, Arc::clone(&broker)));
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
