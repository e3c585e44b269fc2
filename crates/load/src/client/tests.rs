//! A client against a server that is played by hand.

use super::*;
use base64::Engine as _;
use sha1::Digest as _;
use std::time::Duration;
use tidewire_checker::PayloadId;
use tidewire_protocol::{ConnectResult, Error, Unsubscribe};

struct Table {
    context: Context,
    client: Client,
    out: Vec<u8>,
    events: Vec<Event>,
}

/// What a server would have answered, from what the client asked.
fn upgrade(request: &[u8]) -> Vec<u8> {
    let request = std::str::from_utf8(request).unwrap();
    let header = |name: &str| request.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let mut hash = sha1::Sha1::new();
    hash.update(header("Sec-WebSocket-Key: ").unwrap());
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.finalize());
    let protocol =
        header("Sec-WebSocket-Protocol: ").map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
        protocol.unwrap_or_default()
    )
    .into_bytes()
}

fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode, 126];
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn unmask(mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = input {
        assert!(second & 0x80 != 0, "a client masks");
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let payload =
            rest[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        frames.push((*first, payload));
        input = &rest[length..];
    }
    frames
}

impl Table {
    fn new(encoding: Encoding, role: Role) -> Self {
        let dialect = Dialect {
            authority: "h:1".into(),
            path: "/ws".into(),
            encoding,
            recoverable: role.since.is_some(),
            compression: false,
        };
        let context = Context::new(dialect);
        let mut out = Vec::new();
        let client = Client::open(role, &context, &mut out);
        let mut table = Self { context, client, out: Vec::new(), events: Vec::new() };
        table.receive(&upgrade(&out)).unwrap();
        table
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let events = &mut self.events;
        let mut event = |event| events.push(event);
        let mut out = Output { bytes: &mut self.out, event: &mut event };
        self.client.receive(bytes, &mut self.context, &mut out)
    }

    fn replies(&self, replies: &[Reply]) -> Vec<u8> {
        let mut payload = Vec::new();
        for reply in replies {
            frame::append_reply(self.context.dialect.encoding, reply, &mut payload).unwrap();
        }
        let opcode = if self.context.dialect.encoding == Encoding::Json { 0x81 } else { 0x82 };
        server_frame(opcode, &payload)
    }

    fn answer(&mut self, replies: &[Reply]) -> Result<(), ClientError> {
        let frame = self.replies(replies);
        self.receive(&frame)
    }

    /// The commands the client has sent since the last call.
    fn commands(&mut self) -> Vec<Command> {
        let encoding = self.context.dialect.encoding;
        let frames = unmask(&std::mem::take(&mut self.out));
        let commands = frames.into_iter().flat_map(|(_, payload)| {
            let limits = frame::DecodeLimits::default();
            frame::commands(encoding, &payload.into(), &limits).collect::<Result<Vec<_>, _>>().unwrap()
        });
        commands.collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

fn connected(id: u32) -> Reply {
    let result = ConnectResult { ping: 25, pong: true, ..Default::default() };
    Reply { id, connect: Some(Box::new(result)), ..Default::default() }
}

fn subscribed(id: u32, offset: u64, publications: Vec<Publication>) -> Reply {
    let result = SubscribeResult {
        positioned: true,
        recoverable: true,
        epoch: "e".into(),
        offset,
        recovered: !publications.is_empty(),
        was_recovering: !publications.is_empty(),
        publications,
        ..Default::default()
    };
    Reply { id, subscribe: Some(Box::new(result)), ..Default::default() }
}

fn publication(offset: u64) -> Publication {
    let mut data = Vec::new();
    payload(offset).append(100, crate::payload::Filler::Letters, &mut data);
    Publication { data: data.into(), offset, ..Default::default() }
}

fn payload(sequence: u64) -> Payload {
    Payload { id: PayloadId { publisher: 0, sequence }, due: Duration::from_millis(5) }
}

fn push(channel: &str, offset: u64) -> Reply {
    let push = Push {
        channel: channel.into(),
        publication: Some(Box::new(publication(offset))),
        ..Default::default()
    };
    Reply { push: Some(Box::new(push)), ..Default::default() }
}

fn arrival(offset: u64) -> Arrival {
    Arrival { offset, payload: Some(payload(offset)) }
}

fn role(since: Option<Position>) -> Role {
    Role { token: "t".into(), channel: Some("c".into()), since }
}

#[test]
fn a_client_connects_subscribes_and_hears_publications_in_either_encoding() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let mut table = Table::new(encoding, role(None));
        let commands = table.commands();
        assert_eq!(commands[0].connect.as_ref().unwrap().token, "t");
        table.answer(&[connected(commands[0].id)]).unwrap();
        let commands = table.commands();
        let subscribe = commands[0].subscribe.as_ref().unwrap();
        assert_eq!((&*subscribe.channel, subscribe.recover), ("c", false));
        assert!(!table.client.is_live());
        table.answer(&[subscribed(commands[0].id, 7, Vec::new()), push("c", 8)]).unwrap();
        assert!(table.client.is_live());
        table.answer(&[push("c", 9)]).unwrap();
        // The same bytes again come out of the cache, and are the same.
        table.answer(&[push("c", 9)]).unwrap();
        let position = Some(Position::new("e", 7));
        let subscribed =
            Event::Subscribed { position, was_recovering: false, recovered: false, publications: Vec::new() };
        let publications = [8, 9, 9].map(|offset| Event::Publication(arrival(offset)));
        assert_eq!(table.events(), [&[Event::Connected, subscribed][..], &publications].concat());
        assert_eq!(table.client.position(), Some(&Position::new("e", 9)));
    }
}

#[test]
fn publications_that_share_a_frame_are_each_decoded_once() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let mut table = Table::new(encoding, role(None));
        table.answer(&[connected(1), subscribed(2, 0, Vec::new())]).unwrap();
        table.events();
        // Gathered otherwise each time, as for different clients, with a reply and a ping between them.
        table.answer(&[push("c", 1), push("c", 2), Reply::default(), push("c", 3)]).unwrap();
        table.answer(&[push("c", 1)]).unwrap();
        table.answer(&[push("c", 2), push("c", 3)]).unwrap();
        let mut events = table.events();
        events.retain(|event| matches!(event, Event::Publication(_)));
        assert_eq!(events, [1, 2, 3, 1, 2, 3].map(|offset| Event::Publication(arrival(offset))));
        for offset in 1..=3 {
            let mut alone = Vec::new();
            frame::append_reply(encoding, &push("c", offset), &mut alone).unwrap();
            assert!(table.context.frames.find(&alone, false).is_some(), "{encoding:?} {offset}");
        }
    }
}

#[test]
fn a_burst_is_known_until_the_last_client_had_all_of_it() {
    let mut table = Table::new(Encoding::Json, role(None));
    table.answer(&[connected(1), subscribed(2, 0, Vec::new())]).unwrap();
    for offset in 1..=200 {
        table.answer(&[push("c", offset)]).unwrap();
    }
    for offset in 1..=200 {
        let mut frame = Vec::new();
        frame::append_reply(Encoding::Json, &push("c", offset), &mut frame).unwrap();
        assert!(table.context.frames.find(&frame, false).is_some(), "{offset}");
    }
}

#[test]
fn every_way_of_cutting_the_bytes_gives_the_same_events() {
    let mut whole = Table::new(Encoding::Json, role(None));
    let frames = [
        whole.replies(&[connected(1)]),
        whole.replies(&[subscribed(2, 0, Vec::new())]),
        whole.replies(&[push("c", 1), Reply::default(), push("c", 2)]),
        vec![0x89, 1, b'p'],
        whole.replies(&[push("c", 3)]),
    ]
    .concat();
    whole.receive(&frames).unwrap();
    let (expected, commands) = (whole.events(), unmask(&whole.out).len());
    assert_eq!(expected.len(), 6, "{expected:?}");
    for size in 1..frames.len() {
        let mut table = Table::new(Encoding::Json, role(None));
        for part in frames.chunks(size) {
            table.receive(part).unwrap();
        }
        assert_eq!(table.events(), expected, "in parts of {size}");
        assert_eq!(unmask(&table.out).len(), commands);
    }
}

#[test]
fn a_message_in_fragments_with_a_ping_between_is_put_together() {
    let mut table = Table::new(Encoding::Json, role(None));
    let whole = table.replies(&[connected(1)]);
    let payload = &whole[4..];
    let (start, end) = payload.split_at(5);
    let parts = [server_frame(0x01, start), vec![0x89, 2, b'h', b'i'], server_frame(0x80, end)].concat();
    table.commands();
    table.receive(&parts).unwrap();
    assert_eq!(table.events(), [Event::Connected]);
    assert_eq!(unmask(&table.out)[0], (0x8a, b"hi".to_vec()));
    assert_eq!(table.receive(&server_frame(0x80, end)), Err(WsError::Fragment.into()));
}

#[test]
fn a_client_that_comes_back_asks_for_what_it_missed() {
    let mut table = Table::new(Encoding::Protobuf, role(Some(Position::new("e", 41))));
    assert_eq!(
        table.client.position(),
        Some(&Position::new("e", 41)),
        "known before the server says anything"
    );
    table.answer(&[connected(1)]).unwrap();
    let commands = table.commands();
    let subscribe = commands[1].subscribe.as_ref().unwrap();
    assert_eq!((subscribe.recover, &*subscribe.epoch, subscribe.offset), (true, "e", 41));
    assert!(subscribe.recoverable);
    table.answer(&[subscribed(2, 41, vec![publication(42), publication(43)])]).unwrap();
    assert_eq!(table.client.position(), Some(&Position::new("e", 43)));
    let Some(Event::Subscribed { recovered, publications, .. }) = table.events().pop() else { panic!() };
    assert_eq!((recovered, publications), (true, vec![arrival(42), arrival(43)]));
}

#[test]
fn an_ended_subscription_is_taken_up_again_where_its_code_says_so() {
    let mut table = Table::new(Encoding::Json, role(None));
    table.answer(&[connected(1)]).unwrap();
    table.answer(&[subscribed(2, 5, Vec::new())]).unwrap();
    table.commands();
    let ended = |code| {
        let unsubscribe = Unsubscribe { code, reason: "r".into() };
        let push =
            Push { channel: "c".into(), unsubscribe: Some(Box::new(unsubscribe)), ..Default::default() };
        Reply { push: Some(Box::new(push)), ..Default::default() }
    };
    table.answer(&[ended(2500)]).unwrap();
    let again = table.commands();
    assert_eq!(again[0].subscribe.as_ref().unwrap().offset, 5);
    table.answer(&[subscribed(again[0].id, 5, vec![publication(6)])]).unwrap();
    assert!(table.client.is_live());
    table.answer(&[ended(2000)]).unwrap();
    assert!(table.commands().is_empty());
}

#[test]
fn application_pings_are_answered_and_counted() {
    for (encoding, ping, pong) in [(Encoding::Json, &b"{}"[..], &b"{}"[..]), (Encoding::Protobuf, &[0], &[0])]
    {
        let mut table = Table::new(encoding, Role { channel: None, ..role(None) });
        table.answer(&[connected(1)]).unwrap();
        table.commands();
        table.events();
        table.receive(&server_frame(0x82, ping)).unwrap();
        assert_eq!(unmask(&table.out)[0].1, pong);
        assert_eq!(table.events(), [Event::Ping]);
    }
}

#[test]
fn a_refusal_or_a_close_ends_the_client_with_its_reason() {
    let mut table = Table::new(Encoding::Json, role(None));
    let error = Error { code: 109, message: "token expired".into(), temporary: false };
    let refused = table.answer(&[Reply { id: 1, error: Some(Box::new(error)), ..Default::default() }]);
    assert_eq!(refused.unwrap_err().to_string(), "connect was refused with error 109 (token expired)");
    let mut table = Table::new(Encoding::Json, role(None));
    let closed = table.receive(&[&[0x88, 10][..], &3001_u16.to_be_bytes(), b"shutdown"].concat());
    assert_eq!(closed, Err(ClientError::Closed { code: 3001, reason: "shutdown".into() }));
    assert_eq!(table.events(), [Event::Closed { code: 3001 }]);
    assert_eq!(unmask(&table.out).last().unwrap().0, 0x88, "the close is answered");
}

#[test]
fn a_ping_is_not_answered_if_the_server_does_not_want_that() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let mut table = Table::new(encoding, Role { channel: None, ..role(None) });
        table.answer(&[Reply { id: 1, connect: Some(Box::default()), ..Default::default() }]).unwrap();
        table.commands();
        table.answer(&[Reply::default()]).unwrap();
        assert_eq!(table.events(), [Event::Connected, Event::Ping]);
        assert_eq!(table.commands(), []);
    }
}

#[test]
fn what_the_server_subscribed_it_to_is_neither_its_own_nor_astray() {
    let mut table = Table::new(Encoding::Json, role(None));
    let subs = [("mine".to_owned(), SubscribeResult::default())].into();
    let result = ConnectResult { subs, ..Default::default() };
    table.answer(&[Reply { id: 1, connect: Some(Box::new(result)), ..Default::default() }]).unwrap();
    table.answer(&[subscribed(2, 7, Vec::new())]).unwrap();
    table.events();
    let of = |channel: &str, push: Push| {
        let push = Push { channel: channel.into(), ..push };
        Reply { push: Some(Box::new(push)), ..Default::default() }
    };
    let given = of("guest", Push { subscribe: Some(Box::default()), ..Default::default() });
    let taken = Unsubscribe { code: 2000, ..Default::default() };
    let taken = of("guest", Push { unsubscribe: Some(Box::new(taken)), ..Default::default() });
    table.answer(&[push("mine", 70), given, push("guest", 5), push("c", 8), taken]).unwrap();
    assert_eq!(table.events(), [Event::Publication(arrival(8))]);
    assert_eq!(table.client.position(), Some(&Position::new("e", 8)));
    assert!(table.client.is_live());
    table.answer(&[push("guest", 6)]).unwrap();
    assert_eq!(table.events(), [Event::Stray(arrival(6))]);
    assert_eq!(table.client.position(), Some(&Position::new("e", 8)));
}

#[test]
fn a_publication_of_another_channel_or_with_changed_bytes_is_not_taken_for_its_own() {
    let mut table = Table::new(Encoding::Json, role(None));
    table.answer(&[connected(1), subscribed(2, 0, Vec::new())]).unwrap();
    table.events();
    // Twice, so that the second comes out of the cache.
    for _ in 0..2 {
        table.answer(&[push("d", 1)]).unwrap();
        assert_eq!(table.events(), [Event::Stray(arrival(1))]);
    }
    let mut damaged = table.replies(&[push("c", 2)]);
    let filler = damaged.len() - 20;
    damaged[filler] = b'!';
    table.receive(&damaged).unwrap();
    assert_eq!(table.events(), [Event::Publication(Arrival { offset: 2, payload: None })]);
}

#[test]
fn bytes_that_are_no_protocol_are_an_error_and_never_a_panic() {
    let mut table = Table::new(Encoding::Json, role(None));
    assert!(matches!(table.receive(&server_frame(0x81, b"{\"id\":")), Err(ClientError::Decode(_))));
    let mut table = Table::new(Encoding::Protobuf, role(None));
    assert!(matches!(table.receive(&server_frame(0x82, &[9, 1])), Err(ClientError::Decode(_))));
}
