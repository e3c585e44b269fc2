//! The protobuf encoding by hand, with fields that nobody knows. Numbers are those of the published schema.

use super::protocol::{Ask, Manner, PERSONAL, Publication, Tell};

/// A field that was read.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(input: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    while let [byte, rest @ ..] = *input {
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut input: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = (!input.is_empty()).then(|| varint(&mut input))?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut input)),
            2 => Value::Bytes(bytes(&mut input)),
            other => panic!("wire type {other}"),
        };
        Some((tag >> 3, value))
    })
}

fn bytes<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let length = varint(input) as usize;
    let (bytes, rest) = input.split_at(length);
    *input = rest;
    bytes
}

// === reading ===

/// The commands of one message.
pub(crate) fn asks(mut message: &[u8]) -> Vec<Ask> {
    let mut asks = Vec::new();
    while !message.is_empty() {
        asks.push(ask(bytes(&mut message)));
    }
    asks
}

fn ask(command: &[u8]) -> Ask {
    let (mut id, mut request) = (0, None);
    for (number, value) in fields(command) {
        match value {
            Value::Number(value) => id = value,
            Value::Bytes(body) => request = Some((number, body)),
        }
    }
    let Some((number, body)) = request else { return Ask::Pong };
    let text = |number: u64| {
        let found = fields(body).find(|(field, _)| *field == number);
        found.map_or(Vec::new(), |(_, value)| match value {
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Number(_) => panic!("field {number} is bytes"),
        })
    };
    let name = |number| String::from_utf8(text(number)).unwrap();
    let figure = |number: u64| {
        let found = fields(body).find(|(field, _)| *field == number);
        found.map_or(0, |(_, value)| match value {
            Value::Number(value) => value,
            Value::Bytes(_) => panic!("field {number} is a number"),
        })
    };
    match number {
        4 => Ask::Connect { id, token: name(1) },
        5 => {
            let since = (figure(3) == 1).then(|| (name(6), figure(7)));
            Ask::Subscribe { id, channel: name(1), since }
        }
        7 => Ask::Publish { id, channel: name(1), data: text(2) },
        other => panic!("request {other}"),
    }
}

// === writing ===

/// A message under construction: fields, each whole.
struct Fields(Vec<Vec<u8>>);

fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Fields {
    /// With a field that nobody knows.
    fn new() -> Self {
        Self(Vec::new()).number(900, 5).bytes(901, b"unknown")
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        let mut out = Vec::new();
        number(field << 3, &mut out);
        number(value, &mut out);
        self.0.push(out);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        let mut out = Vec::new();
        number(field << 3 | 2, &mut out);
        number(value.len() as u64, &mut out);
        out.extend_from_slice(value);
        self.0.push(out);
        self
    }

    fn end(mut self, manner: Manner) -> Vec<u8> {
        if manner.reverses() {
            self.0.reverse();
        }
        self.0.concat()
    }
}

/// One message with its length in front.
pub(crate) fn tell(tell: &Tell, manner: Manner) -> Vec<u8> {
    let reply =
        |id: u64, field: u64, body: Vec<u8>| Fields::new().number(1, id).bytes(field, &body).end(manner);
    let body = match tell {
        Tell::Ping => Vec::new(),
        Tell::Connected { id, manner } => reply(*id, 5, connected(*manner)),
        Tell::Subscribed { id, place, publications } => {
            let mut result = Fields::new();
            if let Some(place) = place {
                result = result
                    .bytes(6, place.epoch.as_bytes())
                    .number(9, place.offset)
                    .number(10, 1)
                    .number(3, 1);
                result = result.number(12, place.recovered.is_some().into());
                result = result.number(8, (place.recovered == Some(true)).into());
            }
            let mut result = result.end(manner);
            // The order of the repeated field counts.
            publications.iter().for_each(|one| {
                result.extend(Fields(Vec::new()).bytes(7, &publication(one, manner)).end(manner));
            });
            reply(*id, 6, result)
        }
        Tell::Published { id } => reply(*id, 8, Fields::new().end(manner)),
        Tell::Refused { id, code } => {
            reply(*id, 2, Fields::new().number(1, *code).bytes(2, b"no").end(manner))
        }
        Tell::Publication { channel, publication: one } => {
            push(channel, 4, &publication(one, manner), manner)
        }
        Tell::Join { channel } => {
            let info = Fields::new().bytes(1, b"u").bytes(2, b"c").end(manner);
            push(channel, 5, &Fields::new().bytes(1, &info).end(manner), manner)
        }
        Tell::Given { channel, offset } => {
            let given = Fields::new().number(1, 1).bytes(4, b"mine").number(5, *offset).number(6, 1);
            push(channel, 9, &given.end(manner), manner)
        }
        Tell::Taken { channel } => {
            push(channel, 7, &Fields::new().number(2, 2000).bytes(3, b"taken away").end(manner), manner)
        }
    };
    let mut out = Vec::new();
    number(body.len() as u64, &mut out);
    [out, body].concat()
}

fn connected(manner: Manner) -> Vec<u8> {
    let mut result = Fields::new().bytes(1, b"c-1").bytes(2, b"0");
    if manner.pings() {
        result = result.number(7, 1);
    }
    if manner.wants_pongs() {
        result = result.number(8, 1);
    }
    if manner.has_personal_channel() {
        let personal = Fields::new().number(3, 1).number(10, 1).bytes(6, b"mine").number(9, 70).end(manner);
        result = result
            .bytes(6, &Fields(Vec::new()).bytes(1, PERSONAL.as_bytes()).bytes(2, &personal).end(manner));
    }
    result.end(manner)
}

fn push(channel: &str, kind: u64, body: &[u8], manner: Manner) -> Vec<u8> {
    let push = Fields::new().bytes(2, channel.as_bytes()).bytes(kind, body).end(manner);
    Fields::new().bytes(4, &push).end(manner)
}

fn publication(publication: &Publication, manner: Manner) -> Vec<u8> {
    let tag = Fields(Vec::new()).bytes(1, b"a").bytes(2, b"b").end(manner);
    let fields = Fields::new().bytes(4, &publication.data).bytes(7, &tag);
    publication.offset.into_iter().fold(fields, |fields, offset| fields.number(6, offset)).end(manner)
}
