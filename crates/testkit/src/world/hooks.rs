//! The application's part: who a client is and what the server subscribes it to. Slow and failing if that is drawn.

use std::sync::Arc;

use parking_lot::Mutex;
use tidewire_core::hooks::{ConnectEvent, ConnectGrant, Hooks, Refusal, SubscribeGrant};
use tidewire_engine::BoxFuture;
use tidewire_protocol::{ChannelName, ErrorCode};

use crate::client::Client;
use crate::draw::Draw;
use crate::env::Env;
use crate::fault::Fault;
use crate::plan::Plan;

/// The hooks of one node.
pub(super) fn hooks(env: &Arc<Env>, plan: &Plan, clients: &[Client], draw: Draw) -> Hooks {
    let server_side: Vec<(String, Vec<ChannelName>)> =
        clients.iter().map(|client| (client.user(), client.server_side_channels())).collect();
    let (env, chance) = (Arc::clone(env), plan.rates.chance(Fault::HookTrouble));
    let draw = Mutex::new(draw);
    let connect = move |event: ConnectEvent| {
        let user = String::from_utf8_lossy(&event.data).trim_matches('"').to_owned();
        let subs = server_side.iter().find(|(name, _)| *name == user);
        let subs = subs.map(|(_, channels)| channels.clone()).unwrap_or_default();
        let grant = ConnectGrant {
            user,
            subs: subs.into_iter().map(|channel| (channel, SubscribeGrant::default())).collect(),
            ..Default::default()
        };
        let mut draw = draw.lock();
        let strikes = env.is_troubled() && draw.chance(chance);
        let (wait, fails) = (draw.millis(1, 3_000), draw.chance(0.3));
        if strikes {
            env.fault(Fault::HookTrouble);
        }
        let env = Arc::clone(&env);
        let answer = async move {
            if strikes {
                env.sleep(wait).await;
                if fails {
                    return Err(Refusal::from(ErrorCode::Internal));
                }
            }
            Ok(Some(grant))
        };
        Box::pin(answer) as BoxFuture<'static, _>
    };
    Hooks { connect: Some(Arc::new(connect)), ..Default::default() }
}
