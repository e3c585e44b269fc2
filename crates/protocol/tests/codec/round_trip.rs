//! Any message survives either encoding, and both say the same.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tidewire_protocol::frame::{self, DecodeLimits};
use tidewire_protocol::{Command, DecodeError, Encoding, Reply};

use crate::support::{Tape, make_command, make_reply};

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

/// Enough for any message a tape makes.
fn limits() -> DecodeLimits {
    DecodeLimits { command_bytes: usize::MAX, ..DecodeLimits::default() }
}

fn read_commands(encoding: Encoding, frame: &Bytes) -> Vec<Result<Command, DecodeError>> {
    frame::commands(encoding, frame, &limits()).collect()
}

fn read_replies(encoding: Encoding, frame: &Bytes) -> Vec<Result<Reply, DecodeError>> {
    frame::replies(encoding, frame).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn commands_survive_either_encoding_alone_and_several_in_a_frame(
        tapes in vec(vec(any::<u8>(), 0..300), 1..5)
    ) {
        let commands: Vec<Command> = tapes.iter().map(|tape| make_command(&mut Tape(tape))).collect();
        for encoding in BOTH {
            let mut frame = Vec::new();
            for command in &commands {
                frame::append_command(encoding, command, &mut frame).unwrap();
            }
            let read = read_commands(encoding, &Bytes::from(frame));
            prop_assert_eq!(read, commands.iter().cloned().map(Ok).collect::<Vec<_>>());
        }
    }

    #[test]
    fn replies_survive_either_encoding_alone_and_several_in_a_frame(
        tapes in vec(vec(any::<u8>(), 0..300), 1..5)
    ) {
        let replies: Vec<Reply> = tapes.iter().map(|tape| make_reply(&mut Tape(tape))).collect();
        for encoding in BOTH {
            let mut frame = Vec::new();
            for reply in &replies {
                frame::append_reply(encoding, reply, &mut frame).unwrap();
            }
            let read = read_replies(encoding, &Bytes::from(frame));
            prop_assert_eq!(read, replies.iter().cloned().map(Ok).collect::<Vec<_>>());
        }
    }

    #[test]
    fn json_and_protobuf_say_the_same(tape in vec(any::<u8>(), 0..600)) {
        let reply = make_reply(&mut Tape(&tape));
        let through = |encoding, reply: &Reply| {
            let mut frame = Vec::new();
            frame::append_reply(encoding, reply, &mut frame).unwrap();
            let frame = Bytes::from(frame);
            frame::replies(encoding, &frame).next().unwrap().unwrap()
        };
        let json_first = through(Encoding::Protobuf, &through(Encoding::Json, &reply));
        let protobuf_first = through(Encoding::Json, &through(Encoding::Protobuf, &reply));
        prop_assert_eq!(json_first, protobuf_first);
    }

    #[test]
    fn a_pause_after_any_command_loses_nothing(
        tapes in vec(vec(any::<u8>(), 0..60), 1..6), json in any::<bool>(), pause in 1_usize..6
    ) {
        let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
        let mut frame = Vec::new();
        for tape in &tapes {
            frame::append_command(encoding, &make_command(&mut Tape(tape)), &mut frame).unwrap();
        }
        let frame = Bytes::from(frame);
        let limits = limits();
        let mut first = frame::commands(encoding, &frame, &limits);
        let mut read: Vec<_> = first.by_ref().take(pause).collect();
        let rest = first.rest();
        prop_assert_eq!(rest.is_empty(), first.is_done());
        if !rest.is_empty() {
            read.extend(frame::commands(encoding, &rest, &limits));
        }
        prop_assert_eq!(read, read_commands(encoding, &frame));
    }

    #[test]
    fn any_bytes_at_all_are_messages_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        decode_anything(bytes);
    }

    #[test]
    fn any_json_like_text_is_messages_or_an_error(
        text in r#"([\{\}\[\],:]|"(id|connect|data|subs|push|pub|tf|nodes)"|null|true|-?[0-9.e]{1,3}|\\u00|[ \n]){0,60}"#
    ) {
        decode_anything(text.into_bytes());
    }

    #[test]
    fn a_damaged_frame_is_messages_or_an_error(
        tape in vec(any::<u8>(), 0..300), json in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
        let mut frame = Vec::new();
        frame::append_command(encoding, &make_command(&mut Tape(&tape)), &mut frame).unwrap();
        let at = at.index(frame.len());
        let cut = frame[..at].to_vec();
        frame[at] = byte;
        decode_anything(frame);
        decode_anything(cut);
    }
}

/// What decodes must encode again and then decode to itself; what does not ends the iteration.
fn decode_anything(bytes: Vec<u8>) {
    let frame = Bytes::from(bytes);
    for encoding in BOTH {
        let limits = DecodeLimits::default();
        let read: Vec<_> = frame::commands(encoding, &frame, &limits).collect();
        let fatal = |result: &Result<Command, DecodeError>| {
            !matches!(result, Ok(_) | Err(DecodeError::Refused { .. }))
        };
        assert!(read.iter().rev().skip(1).all(|result| !fatal(result)), "nothing follows an error");
        for command in read.into_iter().flatten() {
            let mut again = Vec::new();
            frame::append_command(encoding, &command, &mut again).unwrap();
            assert_eq!(read_commands(encoding, &Bytes::from(again)), [Ok(command)]);
        }
        for reply in read_replies(encoding, &frame).into_iter().flatten() {
            let mut again = Vec::new();
            frame::append_reply(encoding, &reply, &mut again).unwrap();
            assert_eq!(read_replies(encoding, &Bytes::from(again)), [Ok(reply)]);
        }
    }
}
