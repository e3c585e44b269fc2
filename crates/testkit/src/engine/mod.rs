//! An engine that misbehaves within its contract, around the embedded one.
//!
//! Answers come late and out of order, are refused, or are refused although the thing was done. Streams are lost and
//! begin anew. Announcements are late; if the engine does not promise otherwise they are also lost, all of them for a
//! while or one now and then, or come twice. Per channel those that come keep their order.
//!
//! `relay`: announcements. `lie`: misbehaviour outside the contract, to test the tests.

mod lie;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tidewire_engine::{
    Announcements, BoxFuture, Broker, Capabilities, Clock, Engine, EngineError, History, HistoryFilter,
    NewPublication, PresenceStats, PresenceStore, Published, Result,
};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_protocol::{ChannelName, ClientInfo, StreamPosition};

use self::lie::Liar;
pub use self::lie::Lie;
use self::relay::Relay;
use crate::draw::Draw;
use crate::env::Env;
use crate::fault::{Fault, FaultRates};

/// What parts a channel's name from the number of its stream's life in the engine underneath.
const LIFE: char = '\u{1}';

/// How the engine behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    pub(crate) rates: FaultRates,
    pub(crate) lossless: bool,
    pub(crate) lie: Option<Lie>,
}

/// The misbehaving engine of one world.
pub(crate) struct SimEngine {
    env: Arc<Env>,
    inner: Arc<EmbeddedEngine>,
    relay: Arc<Relay>,
    manners: Manners,
    draw: Mutex<Draw>,
    liar: Liar,
}

/// What happens to one call.
#[derive(Default)]
struct Fate {
    before: Duration,
    refused: bool,
    after: Duration,
    uncertain: bool,
    never: bool,
}

impl SimEngine {
    pub(crate) fn new(env: Arc<Env>, draw: &Draw, manners: Manners) -> Arc<Self> {
        let clock: Arc<dyn Clock> = Arc::clone(env.clock()) as Arc<dyn Clock>;
        let mut made = 0;
        let epochs = move || {
            made += 1;
            format!("e{made}")
        };
        let inner = Arc::new(EmbeddedEngine::with_epochs(clock, Box::new(epochs)));
        let relay = Relay::new(Arc::clone(&env), draw.fork("relay"), manners.clone());
        inner.attach(Arc::clone(&relay) as Arc<dyn Announcements>);
        Arc::new(Self {
            draw: Mutex::new(draw.fork("engine")),
            liar: Liar::new(manners.lie, draw.fork("lies")),
            env,
            inner,
            relay,
            manners,
        })
    }

    /// Frees what has run out.
    pub(crate) fn sweep(&self) {
        while self.inner.sweep() {}
    }

    /// Whether nobody is present anywhere.
    pub(crate) fn is_deserted(&self) -> bool {
        self.inner.usage().presence_channels == 0
    }

    /// Channels that the node wants announcements of.
    pub(crate) fn wanted(&self) -> Vec<ChannelName> {
        self.relay.wanted()
    }

    /// The stream is gone without a word; the channel's next use begins a new one.
    pub(crate) fn lose_stream(&self, channel: &ChannelName) {
        let (old, new, wanted) = self.relay.begin_life(channel);
        if wanted {
            // Both are done when the call returns.
            drop(self.inner.subscribe(&[new]));
            drop(self.inner.unsubscribe(&[old]));
        }
    }

    /// Where the stream ends, without faults and without prolonging anything for long.
    pub(crate) fn head(&self, channel: &ChannelName) -> StreamPosition {
        let name = self.relay.life_of(channel);
        let filter = HistoryFilter { limit: Some(0), ..Default::default() };
        let mut head = now(self.inner.history(&name, filter, Duration::ZERO)).unwrap_or_default().top;
        self.liar.epoch(channel, &mut head.epoch);
        head
    }

    /// Who is present, without faults.
    pub(crate) fn look_presence(&self, channel: &ChannelName) -> Vec<Arc<ClientInfo>> {
        now(self.inner.presence(channel)).unwrap_or_default()
    }

    fn fate(&self, what: &str, channel: &str) -> Fate {
        let mut fate = Fate::default();
        if self.env.is_troubled() {
            let rates = &self.manners.rates;
            let mut draw = self.draw.lock();
            let mut strikes = |fault: Fault| {
                let strikes = draw.chance(rates.chance(fault));
                if strikes {
                    self.env.fault(fault);
                }
                strikes
            };
            let delayed = strikes(Fault::EngineDelay);
            fate.refused = strikes(Fault::EngineRefusal);
            fate.uncertain = strikes(Fault::EngineUncertain);
            if delayed {
                let longest = *draw.pick(&[3, 50, 700, 9_000]);
                fate.before = draw.millis(0, longest);
                fate.after = draw.millis(0, longest);
            }
        }
        fate.never = self.liar.never_answers();
        self.env.note(format_args!(
            "engine {what} {channel} in {:?} out {:?}{}{}",
            fate.before,
            fate.after,
            if fate.refused { " refused" } else { "" },
            if fate.uncertain { " uncertain" } else { "" },
        ));
        fate
    }

    /// Lets a call meet its fate.
    fn call<'a, T: Send + 'a>(
        &'a self,
        what: &str,
        channel: &str,
        act: impl FnOnce() -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        let fate = self.fate(what, channel);
        Box::pin(async move {
            if fate.never {
                std::future::pending::<()>().await;
            }
            if !fate.before.is_zero() {
                self.env.sleep(fate.before).await;
            }
            if fate.refused {
                return Err(EngineError::Unavailable("simulated".into()));
            }
            let answer = act();
            if !fate.after.is_zero() {
                self.env.sleep(fate.after).await;
            }
            if fate.uncertain {
                return Err(EngineError::Unavailable("simulated, but done".into()));
            }
            answer
        })
    }
}

/// The embedded engine is done when its call returns.
fn now<T>(future: BoxFuture<'_, Result<T>>) -> Result<T> {
    future
        .now_or_never()
        .unwrap_or_else(|| Err(EngineError::Unavailable("the embedded engine waited".into())))
}

impl Broker for SimEngine {
    fn attach(&self, announcements: Arc<dyn Announcements>) {
        self.relay.attach(announcements);
    }

    fn subscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        let names = channels.to_vec();
        let first = names.first().cloned().unwrap_or_else(|| "".into());
        self.call("subscribe", &first, move || {
            names.iter().try_for_each(|channel| {
                let name = self.relay.want(channel, true);
                now(self.inner.subscribe(&[name]))
            })
        })
    }

    fn unsubscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        let names = channels.to_vec();
        let first = names.first().cloned().unwrap_or_else(|| "".into());
        self.call("unsubscribe", &first, move || {
            names.iter().try_for_each(|channel| {
                let name = self.relay.want(channel, false);
                now(self.inner.unsubscribe(&[name]))
            })
        })
    }

    fn publish(&self, channel: &ChannelName, new: NewPublication) -> BoxFuture<'_, Result<Published>> {
        let channel = channel.clone();
        self.call("publish", &channel.clone(), move || {
            let name = self.relay.life_of(&channel);
            let data = new.data.clone();
            let mut published = now(self.inner.publish(&name, new))?;
            if let Some(position) = &mut published.position {
                self.liar.epoch(&channel, &mut position.epoch);
            }
            if published.suppressed.is_none() {
                let place = published.position.as_ref();
                self.env.note(format_args!("published {channel} {place:?} {data:?}"));
                self.env.record().published(&channel, &data, place);
            }
            Ok(published)
        })
    }

    fn publish_join(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        let channel = channel.clone();
        self.call("join", &channel.clone(), move || {
            now(self.inner.publish_join(&self.relay.life_of(&channel), info))
        })
    }

    fn publish_leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        let channel = channel.clone();
        self.call("leave", &channel.clone(), move || {
            now(self.inner.publish_leave(&self.relay.life_of(&channel), info))
        })
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> BoxFuture<'_, Result<History>> {
        let channel = channel.clone();
        self.call("history", &channel.clone(), move || {
            let name = self.relay.life_of(&channel);
            let mut history = now(self.inner.history(&name, filter, meta_ttl))?;
            self.liar.history(&channel, &mut history);
            Ok(history)
        })
    }

    fn remove_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<()>> {
        let channel = channel.clone();
        self.call("remove history", &channel.clone(), move || {
            now(self.inner.remove_history(&self.relay.life_of(&channel)))
        })
    }
}

impl PresenceStore for SimEngine {
    fn presence_add(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<()>> {
        let channel = channel.clone();
        let ttl = self.liar.presence_ttl(ttl);
        self.call("presence add", &channel.clone(), move || now(self.inner.presence_add(&channel, info, ttl)))
    }

    fn presence_remove(&self, channel: &ChannelName, client: &str) -> BoxFuture<'_, Result<()>> {
        let (channel, client) = (channel.clone(), client.to_owned());
        self.call("presence remove", &channel.clone(), move || {
            if self.liar.keeps_presence() {
                return Ok(());
            }
            now(self.inner.presence_remove(&channel, &client))
        })
    }

    fn presence(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>>> {
        let channel = channel.clone();
        self.call("presence", &channel.clone(), move || now(self.inner.presence(&channel)))
    }

    fn presence_stats(&self, channel: &ChannelName) -> BoxFuture<'_, Result<PresenceStats>> {
        let channel = channel.clone();
        self.call("presence stats", &channel.clone(), move || now(self.inner.presence_stats(&channel)))
    }
}

impl Engine for SimEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { lossless_announcements: self.manners.lossless, shared: false }
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        self.call("ready", "", || Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewire_engine::ManualClock;
    use tidewire_engine::conformance::Subject;

    use super::*;
    use crate::trace::{Trace, Tracing};

    tidewire_engine::conformance!(tests: quiet);

    /// With all faults off it is an engine like any other, so what goes wrong in a world is the faults' doing or ours.
    async fn quiet() -> Subject {
        let clock = Arc::new(ManualClock::new());
        let env = Env::new(clock.clone(), Trace::new(Tracing::Hash));
        let manners = Manners { lossless: true, ..Default::default() };
        Subject {
            engine: SimEngine::new(env, &Draw::new(1), manners),
            advance: Box::new(move |by: Duration| {
                clock.advance(by);
                Box::pin(std::future::ready(()))
            }),
            exact: true,
            unit: Duration::from_secs(1),
        }
    }
}
