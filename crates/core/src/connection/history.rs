//! The history command.

use std::sync::Arc;

use tidewire_protocol::{
    ChannelName, Disconnect, ErrorCode, HistoryRequest, HistoryResult, Reply, StreamPosition,
};

use super::intake::Begun;
use super::{Connection, Turn};
use crate::hooks::Refusal;
use crate::rules;

impl Connection {
    pub(super) fn history(
        &mut self,
        id: u32,
        request: HistoryRequest,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        if request.channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let options = turn.node.options();
        let rules = options.channel.client_rules(&request.channel)?;
        let retention = rules::history(rules, self.asker(&request.channel, turn))?;
        if request.reverse && request.since.as_ref().is_some_and(|since| since.offset == 0) {
            return Err(ErrorCode::BadRequest.into());
        }
        let limit = clamp(request.limit, options.client.history_max_publication_limit);
        let since = request.since.map(StreamPosition::from);
        let channel = ChannelName::from(request.channel);
        let node = Arc::clone(turn.node);
        self.spawn_reply(id, turn, async move {
            let history = node.read_history(&channel, retention, since, limit, request.reverse).await?;
            let result = HistoryResult {
                publications: history
                    .publications
                    .iter()
                    .map(|publication| (**publication).clone())
                    .collect(),
                epoch: history.top.epoch.as_str().to_owned(),
                offset: history.top.offset,
            };
            Ok(Reply { history: Some(Box::new(result)), ..Default::default() })
        });
        Ok(Begun::Yes)
    }
}

/// The limit asked for, a negative one meaning everything, under a maximum of which 0 means none.
fn clamp(asked: i32, max: usize) -> Option<usize> {
    match (usize::try_from(asked), max) {
        (Ok(asked), 0) => Some(asked),
        (Ok(asked), max) => Some(asked.min(max)),
        (Err(_), 0) => None,
        (Err(_), max) => Some(max),
    }
}

#[cfg(test)]
mod tests {
    use super::clamp;

    #[test]
    fn a_client_reads_at_most_the_maximum() {
        assert_eq!(clamp(0, 300), Some(0));
        assert_eq!(clamp(10, 300), Some(10));
        assert_eq!(clamp(i32::MAX, 300), Some(300));
        assert_eq!(clamp(-1, 300), Some(300));
        assert_eq!(clamp(-1, 0), None);
    }
}
