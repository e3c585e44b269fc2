//! From a closure of the application to a hook: a panic in it refuses one request and stops nothing else.

use std::any::Any;
use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt as _;
use tidewire_core::hooks::{Hook, HookResult};
use tidewire_protocol::ErrorCode;

/// Makes a hook of an asynchronous function. If it panics, the answer is error 100, which tells the client to try again.
pub(crate) fn hook<E, T, F, Answer>(name: &'static str, function: F) -> Hook<E, T>
where
    E: 'static,
    T: Send + 'static,
    F: Fn(E) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = HookResult<T>> + Send + 'static,
{
    Arc::new(move |event| {
        // The closure may panic before it makes its future, so calling it is guarded as well.
        match catch_unwind(AssertUnwindSafe(|| function(event))) {
            Ok(answer) => {
                let guarded = AssertUnwindSafe(answer).catch_unwind();
                Box::pin(guarded.map(move |done| done.unwrap_or_else(|panic| refuse(name, &*panic))))
            }
            Err(panic) => Box::pin(ready(refuse(name, &*panic))),
        }
    })
}

fn refuse<T>(hook: &'static str, panic: &(dyn Any + Send)) -> HookResult<T> {
    let why = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    tracing::error!(hook, why, "a hook panicked; the client is asked to try again");
    Err(ErrorCode::Internal.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_before_or_within_the_future_is_an_internal_error() {
        let early = hook("early", |()| -> std::future::Ready<HookResult<()>> { panic!("no future") });
        let late = hook("late", |()| async { panic!("in the {}", "future") });
        let fine = hook("fine", |n: u8| async move { Ok(n + 1) });
        assert_eq!(early(()).await, Err(ErrorCode::Internal.into()));
        let answer: HookResult<()> = late(()).await;
        assert_eq!(answer, Err(ErrorCode::Internal.into()));
        assert_eq!(fine(1).await, Ok(2));
    }
}
