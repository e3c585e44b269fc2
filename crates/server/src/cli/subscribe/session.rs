//! One connection of `tidewire subscribe`.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{StatusCode, Uri};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use super::message::{self, Reply, SubscribeResult};
use super::{Args, Progress};
use crate::cli::output::{self, Failure};
use crate::outgoing::{FetchError, Outgoing, Rules, Stream};

/// Time to connect, and for the server to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence beyond the ping interval after which a connection counts as lost, as for the official SDKs.
const PING_GRACE: Duration = Duration::from_secs(10);

/// How a connection ended.
pub(super) enum End {
    /// As many publications as were asked for.
    Enough,
    /// Another try may go better.
    Lost(String),
    /// It will not.
    Refused(String),
}

/// A connection.
pub(super) struct Session {
    socket: WebSocketStream<Box<dyn Stream>>,
    /// Longest silence.
    patience: Duration,
    /// The server wants its pings answered.
    pong: bool,
}

// === impl Session ===

impl Session {
    pub(super) async fn open(args: &Args) -> Result<Self, End> {
        let url: Uri = args
            .url
            .parse()
            .map_err(|_| End::Refused(format!("{:?} is not an address (--url)", args.url)))?;
        let rules =
            Rules { allow_plain: true, allow_private: true, timeout: ANSWER_TIMEOUT, body_bytes_max: 0 };
        let socket = tokio::time::timeout(ANSWER_TIMEOUT, upgrade(&url, &rules)).await;
        let socket = socket.map_err(|_| End::Lost(format!("{url} does not answer")))??;
        Ok(Self { socket, patience: ANSWER_TIMEOUT, pong: false })
    }

    pub(super) async fn follow(&mut self, args: &Args, progress: &mut Progress) -> Result<End, Failure> {
        if let Err(end) = self.send(message::connect(args.token.as_deref()).to_string()).await {
            return Ok(end);
        }
        loop {
            let frame = match self.receive().await {
                Ok(frame) => frame,
                Err(end) => return Ok(end),
            };
            for line in frame.split('\n').filter(|line| !line.is_empty()) {
                let Ok(reply) = serde_json::from_str::<Reply<'_>>(line) else {
                    return Ok(End::Refused("the server does not speak the client protocol".into()));
                };
                match self.reply(reply, args, progress).await? {
                    None => {}
                    Some(end) => {
                        let _ = self.socket.close(None).await;
                        return Ok(end);
                    }
                }
            }
        }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.socket
            .send(Message::text(text))
            .await
            .map_err(|error| End::Lost(format!("connection lost: {error}")))
    }

    /// The next message that has something to read.
    async fn receive(&mut self) -> Result<String, End> {
        loop {
            let next = tokio::time::timeout(self.patience, self.socket.next()).await;
            match next.map_err(|_| End::Lost("the server has fallen silent".into()))? {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(End::Lost(format!("connection lost: {error}"))),
                None => return Err(End::Lost("connection lost".into())),
            }
        }
    }

    async fn reply(
        &mut self,
        reply: Reply<'_>,
        args: &Args,
        progress: &mut Progress,
    ) -> Result<Option<End>, Failure> {
        if let Some(error) = reply.error {
            let what = if reply.id == 1 { "connect" } else { "subscribe" };
            let why = format!("the server refused to {what}: {} {}", error.code, error.message);
            return Ok(Some(if error.temporary { End::Lost(why) } else { End::Refused(why) }));
        }
        if let Some(connected) = reply.connect {
            if connected.ping > 0 {
                self.patience = Duration::from_secs(connected.ping).saturating_add(PING_GRACE);
            }
            self.pong = connected.pong;
            let subscribe = message::subscribe(args, progress.position.as_ref());
            return Ok(self.send(subscribe.to_string()).await.err());
        }
        if let Some(result) = reply.subscribe {
            return subscribed(&result, args, progress);
        }
        match reply.push {
            Some(push) if push.channel == args.channel => pushed(&push, progress),
            Some(_) => Ok(None),
            None if self.pong => Ok(self.send("{}".into()).await.err()),
            None => Ok(None),
        }
    }
}

async fn upgrade(url: &Uri, rules: &Rules) -> Result<WebSocketStream<Box<dyn Stream>>, End> {
    let stream = Outgoing::default().connect(url, rules).await.map_err(|error| match error {
        FetchError::Forbidden(why) => End::Refused(format!("{url}: {why}")),
        error => End::Lost(format!("{url}: {error}")),
    })?;
    match tokio_tungstenite::client_async(url.clone(), stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => Err(refused_upgrade(url, answer.status())),
        Err(error) => Err(End::Lost(format!("{url}: {error}"))),
    }
}

fn refused_upgrade(url: &Uri, status: StatusCode) -> End {
    match status {
        StatusCode::NOT_FOUND => End::Refused(format!("no clients are served at {url} (--url)")),
        status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            End::Refused(format!("{url} answered {status}"))
        }
        status => End::Lost(format!("{url} answered {status}")),
    }
}

/// Whether to come back, by the ranges of the client protocol.
fn closed(frame: Option<CloseFrame>) -> End {
    let Some(frame) = frame else { return End::Lost("the server closed the connection".into()) };
    let code = u16::from(frame.code);
    let why = format!("the server closed the connection: {code} {}", frame.reason);
    match code {
        1009 | 3500..=3999 | 4500..=4999 => End::Refused(why),
        _ => End::Lost(why),
    }
}

fn subscribed(
    result: &SubscribeResult<'_>,
    args: &Args,
    progress: &mut Progress,
) -> Result<Option<End>, Failure> {
    progress.subscribed = true;
    if result.was_recovering && !result.recovered {
        output::note("what was published meanwhile cannot be recovered; going on from now");
    }
    if result.recoverable {
        output::note(&format!("subscribed at offset {} of epoch {}", result.offset, result.epoch));
        progress.position = Some((result.offset, result.epoch.clone()));
    } else {
        output::note("subscribed");
        progress.position = None;
    }
    for publication in &result.publications {
        if let Some(end) = print(&publication.line(&args.channel), progress)? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

fn pushed(push: &message::Push<'_>, progress: &mut Progress) -> Result<Option<End>, Failure> {
    if let Some(publication) = &push.publication {
        if let Some((offset, _)) = &mut progress.position
            && publication.offset > 0
        {
            *offset = publication.offset;
        }
        return print(&publication.line(&push.channel), progress);
    }
    for (what, presence) in [("join", &push.join), ("leave", &push.leave)] {
        if let Some(presence) = presence {
            output::line(&presence.line(what, &push.channel))?;
        }
    }
    Ok(push.unsubscribe.as_ref().map(|unsubscribe| {
        let why = format!("the server ended the subscription: {} {}", unsubscribe.code, unsubscribe.reason);
        // From 2500 the client is to subscribe again.
        if unsubscribe.code >= 2500 { End::Lost(why) } else { End::Refused(why) }
    }))
}

fn print(line: &str, progress: &mut Progress) -> Result<Option<End>, Failure> {
    output::line(line)?;
    let Some(left) = &mut progress.left else { return Ok(None) };
    *left = left.saturating_sub(1);
    Ok((*left == 0).then_some(End::Enough))
}
