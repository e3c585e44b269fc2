//! Work that has to wait: what a connection asks of the engine, of hooks and of token keys.
//!
//! A connection never waits itself. It hands out a [`Task`]; whoever drives the worker runs its future anywhere and
//! gives the [`Completion`] back.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tidewire_engine::{BoxFuture, History};
use tidewire_protocol::Reply;

use crate::auth::Authenticated;
use crate::hooks::{
    ConnectionClaims, HookResult, RefreshGrant, Refusal, SubscribeGrant, SubscriptionClaims, TokenError,
};

/// Work for the driver of a worker: poll `future` to its end, then hand the result to `Worker::complete` (directly if
/// it was ready at once) or to `Inbox::push_completion`.
pub struct Task {
    /// The work.
    pub future: BoxFuture<'static, Completion>,
}

/// What came of a task.
pub struct Completion {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) answer: Answer,
}

impl Task {
    pub(crate) fn new(
        slot: u32,
        generation: u32,
        work: impl Future<Output = Answer> + Send + 'static,
    ) -> Self {
        // A task that panics still comes back: its connection counts on that.
        let work = AssertUnwindSafe(work).catch_unwind();
        let future = async move {
            let answer = work.await.unwrap_or(Answer::Panicked);
            Completion { slot, generation, answer }
        };
        Self { future: Box::pin(future) }
    }
}

/// Names one attempt to subscribe on a connection: the index may be used again, the attempt number is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubKey {
    pub(crate) index: u32,
    pub(crate) attempt: u32,
}

/// What a task found out, with whom it is for.
pub(crate) enum Answer {
    Authenticated {
        id: u32,
        outcome: HookResult<Box<Authenticated>>,
    },
    Authorized {
        sub: SubKey,
        outcome: HookResult<Authorized>,
    },
    Joined {
        sub: SubKey,
        outcome: HookResult<Option<History>>,
    },
    Left {
        sub: SubKey,
    },
    /// Join announced or presence refreshed.
    Tended {
        sub: SubKey,
    },
    Replied {
        id: u32,
        outcome: HookResult<Reply>,
    },
    Refreshed {
        id: u32,
        outcome: Result<ConnectionClaims, TokenError>,
    },
    SubRefreshed {
        id: u32,
        sub: SubKey,
        outcome: Result<SubscriptionClaims, TokenError>,
    },
    /// The refresh hook's word on the connection.
    Renewed(Result<RefreshGrant, Refusal>),
    /// The sub-refresh hook's word on a subscription.
    SubRenewed {
        sub: SubKey,
        outcome: Result<RefreshGrant, Refusal>,
    },
    /// A `send` message was taken.
    Sent(Option<Refusal>),
    /// The task met a bug of ours.
    Panicked,
    /// Nobody waits for it.
    Done,
}

/// Why a subscription was granted, which decides whether the client's wishes count.
pub(crate) enum Authorized {
    /// By a token or by the rules: the client's wishes count as far as the rules allow.
    ByRules(SubscribeGrant),
    /// By the hook: the rules and the grant decide alone.
    ByHook(SubscribeGrant),
}

impl Authorized {
    pub(crate) fn into_grant(self) -> SubscribeGrant {
        match self {
            Self::ByRules(grant) | Self::ByHook(grant) => grant,
        }
    }
}
