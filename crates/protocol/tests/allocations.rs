//! The fan-out path allocates nothing. In a binary of its own, since the count is of the whole process.

use std::alloc::System;
use std::collections::BTreeMap;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tidewire_protocol::frame::{append_join, append_leave, append_publication};
use tidewire_protocol::{ClientInfo, Encoding, Publication};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn pushes_are_written_without_an_allocation() {
    let info = ClientInfo {
        user: "42".to_owned(),
        client: "6f0e".to_owned(),
        conn_info: Bytes::from_static(br#"{"name":"Ann"}"#),
        chan_info: Bytes::new(),
    };
    let publication = Publication {
        data: Bytes::from_static(b"{\"text\":\"a \\\"long\\\" line\",\n\"nested\":[[[[[[1.5e3]]]]]]}"),
        info: Some(info.clone()),
        offset: 123_456_789,
        tags: BTreeMap::from([("kind".to_owned(), "x\n".to_owned())]),
        ..Publication::default()
    };
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let mut out = Vec::with_capacity(4096);
        let region = Region::new(ALLOCATOR);
        append_publication(encoding, "news:é", &publication, &mut out).unwrap();
        append_join(encoding, "news:é", &info, &mut out).unwrap();
        append_leave(encoding, "news:é", &info, &mut out).unwrap();
        let change = region.change();
        assert_eq!((change.allocations, change.reallocations), (0, 0), "{encoding:?}");
        // The count works: growing the buffer shows.
        let region = Region::new(ALLOCATOR);
        let mut empty = Vec::new();
        append_publication(encoding, "news:é", &publication, &mut empty).unwrap();
        assert_ne!(region.change().allocations, 0);
    }
}
