//! P2: protobuf.

use prost_reflect::{Kind, MessageDescriptor};
use tidewire_protocol::Encoding;

use super::{Made, check_made, field, message, refuse_all, varint};
use crate::support::descriptor;

#[test]
fn bad_p2_a_length_that_is_not_one_or_lies() {
    let frames: Vec<Vec<u8>> = vec![
        vec![],
        vec![0x80],
        vec![0xFF; 9],
        vec![0x80; 10],
        vec![0xFF; 10],
        vec![0x80; 11],
        [vec![0x80; 10], vec![0]].concat(),
        vec![1],
        vec![2, 8],
        vec![0x7F],
        [varint(65_537), vec![0; 10]].concat(),
        varint(u64::from(u32::MAX)),
        varint(u64::MAX),
        varint(u64::MAX / 2),
        vec![0, 1],
        vec![0, 0, 0x80],
        [message(&[8, 1, 0x4A, 0]), vec![5]].concat(),
    ];
    refuse_all(Encoding::Protobuf, &frames, 17);
}

#[test]
fn bad_p2_a_body_that_breaks_the_wire_format() {
    let bodies: Vec<Vec<u8>> = vec![
        vec![8],                                                                // key without value
        vec![8, 0x80],                                                          // varint without end
        vec![8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], // varint of 11 bytes
        vec![0x80],                                                             // key without end
        vec![0, 0],                                                             // field 0
        vec![2, 0],                                                             // field 0 with a length
        [varint(1 << 32), vec![0]].concat(),                                    // key above 32 bits
        vec![0x0E, 0],                                                          // wire type 6
        vec![0x0F, 0],                                                          // wire type 7
        vec![0x0C],                              // end of a group that never began
        vec![0xF3, 6],                           // group without end
        vec![0xF3, 6, 0xFC, 6],                  // group closed by another
        vec![0xF3, 6, 0xF4, 6, 0xF4, 6],         // group closed twice
        vec![0x0B, 0x0C],                        // id as a group
        vec![0x22],                              // length missing
        vec![0x22, 5],                           // length past the end
        vec![0x22, 0x80],                        // length without end
        [vec![0x22], varint(u64::MAX)].concat(), // length of everything
        [vec![0x22], varint(1 << 31)].concat(),
        vec![0xF2, 6, 5],                   // unknown field past the end
        vec![0xF5, 6, 1, 2, 3],             // unknown 32-bit field cut short
        vec![0xF1, 6, 1, 2, 3, 4, 5, 6, 7], // unknown 64-bit field cut short
        vec![0xF0, 6],                      // unknown varint missing
        field(4, &[0x0A]),                  // the same one level down
        field(4, &[0x0A, 2, b'a']),
        field(4, &field(3, &[0x0A])),
        field(4, &field(3, &field(2, &[0x38]))),
        field(5, &field(13, &field(6, &[0x0A, 1]))),
        [0xF3, 6].repeat(101), // groups inside groups
        [[0xF3, 6].repeat(101), [0xF4, 6].repeat(101)].concat(),
        [0xF3, 6].repeat(30_000),
    ];
    let frames: Vec<_> = bodies.iter().map(|body| message(body)).collect();
    refuse_all(Encoding::Protobuf, &frames, 31);
}

#[test]
fn bad_p2_every_field_of_every_command_with_every_wrong_wire_type() {
    let mut made = Made::default();
    make_fields(&descriptor("Command"), &|body| message(body), 0, &mut made);
    check_made(Encoding::Protobuf, &made, 250);
}

/// Frames with values for each field of `message`, or inside it. `around` puts a message of this kind into a frame.
fn make_fields(
    message: &MessageDescriptor,
    around: &dyn Fn(&[u8]) -> Vec<u8>,
    level: usize,
    made: &mut Made<Vec<u8>>,
) {
    const NOT_UTF8: [&[u8]; 5] = [b"\xFF", b"\xC0\x80", b"\xED\xA0\x80", b"ok\xE2\x82", b"\xF5\x80\x80\x80"];
    // A varint, eight bytes, an empty string or message, four bytes.
    const WIRE_TYPES: [(u64, &[u8]); 4] = [(0, &[1]), (1, &[0; 8]), (2, &[0]), (5, &[0; 4])];

    for member in message.fields() {
        let number = u64::from(member.number());
        let kind = member.kind();
        let right = if matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_)) { 2 } else { 0 };
        for (wire_type, value) in WIRE_TYPES {
            let frame = around(&[varint(number << 3 | wire_type), value.to_vec()].concat());
            if wire_type == right { made.right.push(frame) } else { made.wrong.push(frame) }
        }
        match kind {
            Kind::String => made.wrong.extend(NOT_UTF8.iter().map(|text| around(&field(number, text)))),
            Kind::Message(inner) if level < 4 => {
                make_fields(&inner, &|body| around(&field(number, body)), level + 1, made);
            }
            _ => {}
        }
    }
}
