//! The embedded engine passes the cases of every engine.

use std::sync::Arc;
use std::time::Duration;

use tidewire_engine::ManualClock;
use tidewire_engine::conformance::Subject;
use tidewire_engine_embedded::EmbeddedEngine;

tidewire_engine::conformance!(tests: embedded);

async fn embedded() -> Subject {
    on_a_turned_clock(|_| {})
}

/// The same cases again while everything that has run out is swept at once: being freed must not show.
mod swept {
    use super::*;

    tidewire_engine::conformance!(tests: swept_at_once);

    async fn swept_at_once() -> Subject {
        on_a_turned_clock(|engine| while engine.sweep() {})
    }
}

fn on_a_turned_clock(after_advance: fn(&EmbeddedEngine)) -> Subject {
    let clock = Arc::new(ManualClock::new());
    let engine = Arc::new(EmbeddedEngine::new(clock.clone()));
    let swept = engine.clone();
    let advance = move |by: Duration| {
        clock.advance(by);
        after_advance(&swept);
        Box::pin(std::future::ready(())) as tidewire_engine::BoxFuture<'static, ()>
    };
    Subject { engine, advance: Box::new(advance), exact: true, unit: Duration::from_secs(1) }
}
