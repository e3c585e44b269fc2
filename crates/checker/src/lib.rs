//! Judges recorded histories: what publishers sent against what subscribers saw.
//!
//! `event`: what is recorded. `ledger`: the publishers' side, and which publication stands where. `judge`: one
//! subscription, event by event. `report`: what was found. `checker` ties them together for one run.
//!
//! Pure: no I/O, no clock, no randomness, no other crate. It knows no protocol: who records translates. Events are judged
//! as they come and not kept: a subscription costs about a hundred bytes, a publication about as much.
//!
//! # What is judged
//!
//! * [`Mode::Positioned`]: offsets without a gap, each once, unless the client was told (invariants D1 and D2); in the
//!   order of the stream, the same for everyone, and each publisher's own order (D3); at the end everything
//!   acknowledged has arrived.
//! * [`Mode::Filtered`]: the same for those publications that are meant for the subscriber.
//! * [`Mode::AtMostOnce`]: no duplicates, each publisher's order; what is missing is nobody's fault.
//!
//! Always: a payload that nobody published, or that was not for this subscriber, is a violation.
//!
//! # Example
//!
//! ```
//! use tidewire_checker::{Audience, Checker, Delivery, Event, Kind, Mode, PayloadId, Position};
//!
//! let at = |offset| Position::new("epoch", offset);
//! let id = |sequence| PayloadId { publisher: 1, sequence };
//! let mut checker = Checker::new();
//! let news = checker.channel("news");
//! let reader = checker.subscription(news, 7, Mode::Positioned);
//!
//! checker.observe(reader, Event::subscribed_at(at(0)));
//! for sequence in 1..=3 {
//!     checker.published(news, id(sequence), Audience::Channel);
//!     checker.acknowledged(news, id(sequence), Some(at(sequence)));
//! }
//! checker.observe(reader, Event::Publication(Delivery::new(1, id(1))));
//! checker.observe(reader, Event::Publication(Delivery::new(3, id(3)))); // 2 is gone, without a word
//!
//! let report = checker.finish([(news, at(3))]);
//! assert_eq!(report.count(Kind::Lost), 1);
//! assert_eq!(report.violations()[0].offset, 2);
//! ```

mod checker;
mod event;
mod judge;
mod ledger;
mod report;

pub use checker::{Checker, SubscriptionKey};
pub use event::{Delivery, Event, Mode, PayloadId, Position};
pub use judge::SubscriptionJudge;
pub use ledger::{Audience, ChannelKey, Ledger};
pub use report::{Kind, Report, Told, VIOLATIONS_MAX, Violation};
