//! The publish command.

use std::sync::Arc;

use tidewire_engine::NewPublication;
use tidewire_protocol::{
    ChannelName, ClientInfo, Disconnect, ErrorCode, PublishRequest, PublishResult, Reply,
};

use super::intake::Begun;
use super::{Connection, Turn};
use crate::auth::engine_refusal;
use crate::hooks::{PublishEvent, PublishGrant, Refusal};
use crate::node::Node;
use crate::options::ChannelOptions;
use crate::rules::{self, PublishRule};

impl Connection {
    pub(super) fn publish(
        &mut self,
        id: u32,
        request: PublishRequest,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        if request.channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let rules = Arc::clone(turn.node.options().channel.client_rules(&request.channel)?);
        if !rules::data_fits(rules.data_format, &request.data) {
            return Err(ErrorCode::BadRequest.into());
        }
        if request.r#type != 0 {
            return Err(ErrorCode::PermissionDenied.into());
        }
        let asker = self.asker(&request.channel, turn);
        let ask = match rules::publish(&rules, asker, turn.node.hooks().publish.is_some()) {
            PublishRule::Denied(code) => return Err(code.into()),
            PublishRule::Allowed => None,
            PublishRule::AskHook { otherwise } => Some(otherwise),
        };
        let channel = ChannelName::from(request.channel);
        let sub = self.subs.find(&channel).map(|(_, sub)| sub).filter(|sub| sub.is_live());
        let publisher = self.client_info(sub);
        let (node, client) = (Arc::clone(turn.node), self.context());
        self.spawn_reply(id, turn, async move {
            let event = PublishEvent { client, channel, data: request.data };
            publish(&node, &rules, event, publisher, ask).await?;
            Ok(Reply { publish: Some(Box::new(PublishResult {})), ..Default::default() })
        });
        Ok(Begun::Yes)
    }
}

async fn publish(
    node: &Node,
    rules: &ChannelOptions,
    event: PublishEvent,
    publisher: ClientInfo,
    ask: Option<Option<ErrorCode>>,
) -> Result<(), Refusal> {
    let (channel, data) = (event.channel.clone(), event.data.clone());
    let grant = match (ask, &node.hooks().publish) {
        (Some(otherwise), Some(hook)) => match (hook(event).await?, otherwise) {
            (Some(grant), _) => grant,
            (None, None) => PublishGrant::default(),
            (None, Some(code)) => return Err(code.into()),
        },
        _ => PublishGrant::default(),
    };
    let new = NewPublication {
        data: grant.data.unwrap_or(data),
        info: Some(publisher),
        retention: rules.history.filter(|_| !grant.skip_history),
        delta: rules.delta_publish,
        ..Default::default()
    };
    node.engine().publish(&channel, new).await.map_err(|error| engine_refusal(&error))?;
    Ok(())
}
