//! The presence and presence stats commands.

use std::sync::Arc;

use tidewire_protocol::{ChannelName, Disconnect, PresenceResult, PresenceStatsResult, Reply};

use super::intake::Begun;
use super::{Connection, Turn};
use crate::hooks::Refusal;
use crate::rules;

impl Connection {
    pub(super) fn presence(&mut self, id: u32, channel: &str, turn: &mut Turn<'_>) -> Result<Begun, Refusal> {
        let channel = self.check_presence(channel, turn)?;
        let node = Arc::clone(turn.node);
        self.spawn_reply(id, turn, async move {
            let present = node.presence(&channel).await?;
            let presence = present.iter().map(|info| (info.client.clone(), (**info).clone())).collect();
            Ok(Reply { presence: Some(Box::new(PresenceResult { presence })), ..Default::default() })
        });
        Ok(Begun::Yes)
    }

    pub(super) fn presence_stats(
        &mut self,
        id: u32,
        channel: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        let channel = self.check_presence(channel, turn)?;
        let node = Arc::clone(turn.node);
        self.spawn_reply(id, turn, async move {
            let stats = node.presence_stats(&channel).await?;
            let result = PresenceStatsResult { num_clients: stats.clients, num_users: stats.users };
            Ok(Reply { presence_stats: Some(Box::new(result)), ..Default::default() })
        });
        Ok(Begun::Yes)
    }

    fn check_presence(&self, channel: &str, turn: &Turn<'_>) -> Result<ChannelName, Refusal> {
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let rules = turn.node.options().channel.client_rules(channel)?;
        rules::presence(rules, self.asker(channel, turn))?;
        Ok(channel.into())
    }
}
