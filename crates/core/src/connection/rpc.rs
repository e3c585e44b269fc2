//! The rpc command, and `send`, its sibling without an answer.

use bytes::Bytes;
use tidewire_protocol::{Disconnect, ErrorCode, Reply, RpcRequest, RpcResult};

use super::intake::Begun;
use super::{Connection, Turn};
use crate::hooks::{MessageEvent, Refusal, RpcEvent};
use crate::options::RpcOptions;
use crate::task::Answer;

impl Connection {
    pub(super) fn rpc(
        &mut self,
        id: u32,
        request: RpcRequest,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        let options = &turn.node.options().rpc;
        if options.ping_method.as_ref() == Some(&request.method) {
            let result = RpcResult { data: Bytes::new() };
            self.reply(Reply { id, rpc: Some(Box::new(result)), ..Default::default() }, turn);
            return Ok(Begun::Yes);
        }
        let Some(hook) = turn.node.hooks().rpc.clone() else {
            return Err(without_hook(options, &request.method).into());
        };
        let event = RpcEvent { client: self.context(), method: request.method, data: request.data };
        self.spawn_reply(id, turn, async move {
            let data = hook(event).await?;
            Ok(Reply { rpc: Some(Box::new(RpcResult { data })), ..Default::default() })
        });
        Ok(Begun::Yes)
    }

    pub(super) fn send(&mut self, data: Bytes, turn: &mut Turn<'_>) -> Result<Begun, Refusal> {
        let Some(hook) = turn.node.hooks().message.clone() else {
            return Err(Disconnect::NOT_AVAILABLE.into());
        };
        let event = MessageEvent { client: self.context(), data };
        // Messages of one client reach the hook in their order: the next command waits until this one is taken.
        self.waiting += 1;
        self.spawn(turn, async move {
            // Never answered: only a disconnect has an effect.
            Answer::Sent(hook(event).await.err())
        });
        Ok(Begun::Yes)
    }

    pub(super) fn sent(&mut self, refusal: Option<Refusal>, turn: &mut Turn<'_>) {
        self.waiting -= 1;
        if let Some(Refusal::Disconnect(disconnect)) = refusal {
            self.close(disconnect, turn);
        }
    }
}

/// §6 of the protocol: nothing configured at all is "not available", a method that nothing answers to is "not found".
fn without_hook(options: &RpcOptions, method: &str) -> ErrorCode {
    if options.namespaces.is_empty() && options.ping_method.is_none() {
        return ErrorCode::NotAvailable;
    }
    let boundary = options.namespace_boundary.as_str();
    match method.split_once(boundary).filter(|_| !boundary.is_empty()) {
        Some((namespace, _)) if options.namespaces.iter().any(|known| known == namespace) => {
            ErrorCode::NotAvailable
        }
        _ => ErrorCode::MethodNotFound,
    }
}
