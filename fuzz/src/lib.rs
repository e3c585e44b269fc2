//! What the fuzz targets check.
//!
//! `ws` and `resp` are the server's own modules, taken by their files: they are pure, and the crates around them bring TLS
//! and a runtime, which would take longer to build with sanitizers than all targets run.

#[path = "../../crates/engine-redis/src/resp/mod.rs"]
pub mod resp;
#[path = "../../crates/transport/src/ws/mod.rs"]
pub mod ws;

use bytes::Bytes;
use tidewire_protocol::frame::{self, DecodeLimits};
use tidewire_protocol::{DecodeError, Encoding};

/// Reads `bytes` as a frame of commands and as a frame of replies. Whatever decodes must encode again and then decode
/// to itself; nothing may panic, and nothing may follow an error that ends a connection.
pub fn decode_encode_decode(encoding: Encoding, bytes: &[u8]) {
    let frame = Bytes::copy_from_slice(bytes);
    let limits = DecodeLimits::default();
    // Protobuf with default values spelled out, or JSON with many short numbers, may grow when written again.
    let unlimited = DecodeLimits { command_bytes: usize::MAX, ..DecodeLimits::default() };
    let mut commands = frame::commands(encoding, &frame, &limits);
    while let Some(command) = commands.next() {
        match command {
            Ok(command) => {
                let mut again = Vec::new();
                frame::append_command(encoding, &command, &mut again).expect("what was read can be written");
                let again = Bytes::from(again);
                let reread: Vec<_> = frame::commands(encoding, &again, &unlimited).collect();
                assert_eq!(reread, [Ok(command)]);
            }
            Err(DecodeError::Refused { id, .. }) => assert_ne!(id, 0),
            Err(_) => {
                assert!(commands.rest().is_empty() && commands.next().is_none());
            }
        }
    }
    for reply in frame::replies(encoding, &frame).flatten() {
        let mut again = Vec::new();
        frame::append_reply(encoding, &reply, &mut again).expect("what was read can be written");
        let again = Bytes::from(again);
        let reread: Vec<_> = frame::replies(encoding, &again).collect();
        assert_eq!(reread, [Ok(reply)]);
    }
}
