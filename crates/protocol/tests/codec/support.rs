//! The schema as data, and messages made from it: the tests walk `schema/client.proto` instead of listing its fields.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use tidewire_protocol::{Command, Reply};

pub(crate) fn schema_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema")
}

pub(crate) fn schema() -> &'static DescriptorPool {
    static SCHEMA: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let files = protox::compile(["client.proto"], [schema_dir()]).expect("the schema compiles");
        DescriptorPool::from_file_descriptor_set(files).expect("the schema is consistent")
    });
    &SCHEMA
}

pub(crate) fn descriptor(name: &str) -> MessageDescriptor {
    let full = format!("centrifugal.centrifuge.protocol.{name}");
    schema().get_message_by_name(&full).unwrap_or_else(|| panic!("no message {name} in the schema"))
}

/// One frame in both encodings.
pub(crate) struct Example {
    pub(crate) json: Bytes,
    pub(crate) protobuf: Bytes,
}

/// The frozen frames of `kind` by name.
pub(crate) fn examples(kind: &str) -> BTreeMap<String, Example> {
    let files = fs::read_dir(schema_dir().join("examples").join(kind)).unwrap();
    let json = files.map(|file| file.unwrap().path()).filter(|path| path.extension().unwrap() == "json");
    json.map(|path| {
        let hex = fs::read_to_string(path.with_extension("hex")).unwrap_or_default();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, Example { json: Bytes::from(fs::read(&path).unwrap()), protobuf: unhex(hex.trim_end()) })
    })
    .collect()
}

pub(crate) fn unhex(hex: &str) -> Bytes {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Where a made message takes its choices from.
pub(crate) trait Choices {
    /// Whether this field is set.
    fn set(&mut self) -> bool;
    /// How many entries a repeated field or map has, at least 1.
    fn count(&mut self) -> usize;
    /// Any number; most often a small one.
    fn number(&mut self) -> u64;
}

/// A message with what `choices` say. Filters nest at most three levels.
pub(crate) fn make(descriptor: &MessageDescriptor, choices: &mut impl Choices) -> DynamicMessage {
    make_level(descriptor, choices, 0)
}

pub(crate) fn make_command(choices: &mut impl Choices) -> Command {
    Command::decode_of(&make(&descriptor("Command"), choices))
}

pub(crate) fn make_reply(choices: &mut impl Choices) -> Reply {
    Reply::decode_of(&make(&descriptor("Reply"), choices))
}

/// The crate's own type from a message of the schema.
pub(crate) trait DecodeOf: prost_reflect::prost::Message + Default {
    fn decode_of(message: &DynamicMessage) -> Self {
        Self::decode(Bytes::from(message.encode_to_vec())).expect("bytes of the schema decode")
    }
}

impl<T: prost_reflect::prost::Message + Default> DecodeOf for T {}

fn make_level(descriptor: &MessageDescriptor, choices: &mut impl Choices, level: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let recursive = field.kind().as_message() == Some(descriptor);
        if choices.set() && (!recursive || level < 3) {
            let level = if recursive { level + 1 } else { 0 };
            let value = make_field(&field, choices, level);
            message.set_field(&field, value);
        }
    }
    message
}

fn make_field(field: &FieldDescriptor, choices: &mut impl Choices, level: usize) -> Value {
    if field.is_map() {
        let entry = field.kind();
        let value = entry.as_message().expect("a map entry").map_entry_value_field();
        let entries = (0..choices.count())
            .map(|_| (MapKey::String(text(choices.number())), make_one(&value, choices, level)));
        return Value::Map(entries.collect());
    }
    match field.cardinality() {
        Cardinality::Repeated => {
            Value::List((0..choices.count()).map(|_| make_one(field, choices, level)).collect())
        }
        _ => make_one(field, choices, level),
    }
}

fn make_one(field: &FieldDescriptor, choices: &mut impl Choices, level: usize) -> Value {
    let number = match field.kind() {
        Kind::Message(message) => return Value::Message(make_level(&message, choices, level)),
        _ => choices.number(),
    };
    match field.kind() {
        Kind::Bool => Value::Bool(number % 2 == 1),
        Kind::Uint32 => Value::U32(number as u32),
        Kind::Uint64 => Value::U64(number),
        Kind::Int32 => Value::I32(number as i32),
        Kind::Int64 | Kind::Sint64 => Value::I64(number as i64),
        Kind::String => Value::String(text(number)),
        Kind::Bytes => Value::Bytes(Bytes::from(payload(number))),
        kind => panic!("the protocol has no {kind:?}"),
    }
}

/// A string that now and then needs every kind of care.
fn text(number: u64) -> String {
    let odd = [
        "",
        "\"",
        "\\",
        "\n",
        "\u{0}",
        "\u{1f}",
        "\u{7f}",
        "é",
        "\u{2028}",
        "😀",
        "</script>",
        "\r\t\u{8}\u{c}",
    ];
    format!("{}{number}", odd[(number % 12) as usize])
}

/// A JSON value without white space around it.
fn payload(number: u64) -> String {
    match number % 9 {
        0 => format!("{{\"n\":{number}}}"),
        1 => "null".to_owned(),
        2 => format!("[{number}, -1.5e+3,\ttrue]"),
        3 => format!("\"text {number} \\n \\ud83d\\ude00 é\""),
        4 => number.to_string(),
        5 => "{}".to_owned(),
        6 => "false".to_owned(),
        7 => format!("{{\"a\":[[{{\"b\":null}}],[]], \"c\":\"\\\\\\\"{number}\"}}"),
        _ => "\"\"".to_owned(),
    }
}

/// Sets everything, every number another one that no narrower or differently signed type could hold.
#[derive(Default)]
pub(crate) struct Everything(u64);

impl Choices for Everything {
    fn set(&mut self) -> bool {
        true
    }

    fn count(&mut self) -> usize {
        2
    }

    fn number(&mut self) -> u64 {
        self.0 += 1;
        // Odd, so that booleans are true; negative as a signed number of 32 or 64 bits; above 2^53.
        0xF000_0000_F000_0001 | self.0 << 1
    }
}

/// Choices from a tape of bytes; the end of the tape sets nothing more, so that shorter tapes are smaller messages.
pub(crate) struct Tape<'a>(pub(crate) &'a [u8]);

impl Tape<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }
}

impl Choices for Tape<'_> {
    fn set(&mut self) -> bool {
        self.next() % 3 == 1
    }

    fn count(&mut self) -> usize {
        1 + usize::from(self.next() % 3)
    }

    fn number(&mut self) -> u64 {
        let wide = self.next();
        let bytes = if wide % 4 == 3 { 8 } else { 1 };
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.next()))
    }
}
