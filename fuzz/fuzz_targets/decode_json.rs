//! Frames of the client protocol in JSON.
#![no_main]

use tidewire_protocol::Encoding;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tidewire_fuzz::decode_encode_decode(Encoding::Json, bytes);
});
