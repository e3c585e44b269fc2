//! The HTTP API: `publish`, `history` and `info`, answered in every way that HTTP/1.1 has.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::broker::{Broker, EPOCH};
use super::ws::{head, header};
use crate::tool::API_KEY;

/// In a path: see [`IDLE_MAX`].
pub(crate) const CLOSING: &str = "/closing/";
/// A connection that is idle for longer is closed, if it asked for a path like that.
const IDLE_MAX: Duration = Duration::from_millis(20);

#[derive(Deserialize, Default)]
struct Params {
    #[serde(default)]
    channel: String,
    data: Option<Box<RawValue>>,
}

/// Serves a connection until either side has enough of it.
pub(crate) async fn serve(mut socket: TcpStream, broker: Arc<Broker>) {
    socket.set_nodelay(true).unwrap();
    broker.count(|counts| counts.api_connections += 1);
    let mut rest = Vec::new();
    for number in 1_u32.. {
        let Some(head) = head(&mut socket, &mut rest).await else { return };
        let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
        while rest.len() < length {
            if !socket.read_buf(&mut rest).await.is_ok_and(|bytes| bytes > 0) {
                return;
            }
        }
        let body: Vec<u8> = rest.drain(..length).collect();
        broker.count(|counts| counts.api_requests += 1);
        // Some connections end after a while and say so, others end without a word as soon as they are idle.
        let closes = head[0].contains(CLOSING);
        let is_last = !closes && number == 7;
        let answer = match header(&head, "x-api-key") {
            Some(API_KEY) => written(&answer(&head[0], &body, &broker), number, is_last),
            _ => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".into(),
        };
        if socket.write_all(answer.as_bytes()).await.is_err() || is_last {
            return;
        }
        if closes && tokio::time::timeout(IDLE_MAX, socket.read_buf(&mut rest)).await.is_err() {
            broker.count(|counts| counts.closed_when_idle += 1);
            return;
        }
    }
}

fn answer(request: &str, body: &[u8], broker: &Broker) -> Value {
    let params: Params = serde_json::from_slice(body).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    match path.rsplit('/').next().unwrap() {
        "publish" => {
            let offset = broker.publish(&params.channel, params.data.unwrap().get().as_bytes());
            let place = offset.map(|offset| json!({"offset": offset, "epoch": EPOCH, "x_took": 0.5}));
            json!({"result": place.unwrap_or_else(|| json!({}))})
        }
        "history" => match broker.top(&params.channel) {
            Some(top) => {
                json!({"result": {"publications": [], "offset": top, "epoch": EPOCH, "x_size": null}})
            }
            None => json!({"error": {"code": 108, "message": "not available", "x_hint": ""}}),
        },
        other => json!({"error": {"code": 104, "message": format!("no {other} here")}}),
    }
}

/// The answer in one piece or in many, with a trailer; the last one of a connection says so.
fn written(answer: &Value, number: u32, is_last: bool) -> String {
    let body = format!(" {answer}\n");
    let close = if is_last { "CONNECTION: Close\r\n" } else { "keep-alive: timeout=5\r\n" };
    let head = format!(
        "HTTP/1.1 200 Fine\r\nserver: another\r\n{close}CONTENT-TYPE: application/json; charset=UTF-8\r\n"
    );
    if number.is_multiple_of(3) {
        return format!("{head}content-length:{}\r\n\r\n{body}", body.len());
    }
    let mut chunked = format!("{head}transfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n");
    for piece in body.as_bytes().chunks(7) {
        let piece = std::str::from_utf8(piece).unwrap_or_default();
        chunked += &format!("{:X};part=1\r\n{piece}\r\n", piece.len());
    }
    chunked + "0\r\nx-end: yes\r\n\r\n"
}
