//! What a client receives: bytes to WebSocket frames, frames to messages, messages to their parts.

use bytes::Bytes;
use tidewire_protocol::{Push, frame};

use super::cache::KnownFrame;
use super::{Client, ClientError, Context, Event, Output, Stage};
use crate::ws::inflate::inflate;
use crate::ws::{Frame, Opcode, WsError, append_frame, handshake};

impl Client {
    /// Works through whole frames; returns how many bytes they were.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<usize, ClientError> {
        let (mut taken, compression) = (0, context.dialect.compression);
        if let Stage::Upgrading(key, role) = &mut self.stage {
            let Some(head) = handshake::judge(*key, context.dialect.terms(), input)? else {
                return Ok(0);
            };
            taken = head;
            let role = std::mem::take(role);
            self.connect(role, context, out)?;
        }
        while let Some(frame) = Frame::parse(input.get(taken..).unwrap_or_default(), compression)? {
            taken += frame.bytes;
            self.frame(frame, context, out)?;
        }
        Ok(taken)
    }

    fn frame(
        &mut self,
        frame: Frame<'_>,
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<(), ClientError> {
        match (frame.opcode, frame.fin) {
            (Opcode::Text | Opcode::Binary, true) if self.fragments.is_none() => {
                self.message(frame.payload, frame.compressed, context, out)?;
            }
            (Opcode::Text | Opcode::Binary, false) if self.fragments.is_none() => {
                self.fragments = Some((frame.payload.to_vec(), frame.compressed));
            }
            (Opcode::Continuation, fin) => {
                let (message, _) = self.fragments.as_mut().ok_or(WsError::Fragment)?;
                message.extend_from_slice(frame.payload);
                if message.len() as u64 > crate::ws::frame::FRAME_BYTES_MAX {
                    return Err(WsError::TooLarge(message.len() as u64).into());
                }
                if fin {
                    let (message, compressed) = self.fragments.take().unwrap_or_default();
                    self.message(&message, compressed, context, out)?;
                }
            }
            (Opcode::Ping, _) => append_frame(Opcode::Pong, frame.payload, rand::random(), out.bytes),
            (Opcode::Pong, _) => {}
            (Opcode::Close, _) => return self.closed(frame.payload, out),
            _ => return Err(WsError::Fragment.into()),
        }
        Ok(())
    }

    fn closed(&mut self, payload: &[u8], out: &mut Output<'_>) -> Result<(), ClientError> {
        let (code, reason) = match payload {
            [high, low, reason @ ..] => (u32::from(u16::from_be_bytes([*high, *low])), reason),
            _ => (1005, &[][..]),
        };
        self.close(out.bytes);
        (out.event)(Event::Closed { code });
        Err(ClientError::Closed { code, reason: String::from_utf8_lossy(reason).into_owned() })
    }

    /// Takes in a WebSocket message. Most hold one publication and are known by their bytes as they came, so that a
    /// compressed one is inflated once, too.
    fn message(
        &mut self,
        message: &[u8],
        compressed: bool,
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<(), ClientError> {
        if let Some(known) = context.frames.find(message, compressed) {
            self.arrived(known, out);
            return Ok(());
        }
        if !compressed {
            return self.parts(message, context, out).map(drop);
        }
        if let Some(known) = self.parts(&inflate(message)?, context, out)? {
            context.frames.keep(message, true, known);
        }
        Ok(())
    }

    /// Takes in the parts of a message one by one: servers put as many publications into one as are waiting, and each
    /// client's messages may be cut otherwise. Returns the publication if it was the only part.
    fn parts(
        &mut self,
        message: &[u8],
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<Option<KnownFrame>, ClientError> {
        let (mut first, mut count) = (None, 0);
        for part in frame::parts(context.dialect.encoding, message) {
            let known = self.part(part?, context, out)?;
            first = first.or(known);
            count += 1;
        }
        Ok(first.filter(|_| count == 1))
    }

    /// Takes in one part. The same publication comes to thousands and is decoded once. Returns it, if it is one.
    fn part(
        &mut self,
        part: &[u8],
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<Option<KnownFrame>, ClientError> {
        if let Some(known) = context.frames.find(part, false) {
            self.arrived(known, out);
            return Ok(Some(known.clone()));
        }
        let owned = Bytes::copy_from_slice(part);
        for reply in frame::replies(context.dialect.encoding, &owned) {
            let reply = reply?;
            if let Some(Push { channel, publication: Some(publication), .. }) = reply.push.as_deref() {
                let known = KnownFrame::new(channel, publication);
                self.arrived(&known, out);
                context.frames.keep(part, false, known.clone());
                return Ok(Some(known));
            }
            self.reply(reply, context, out)?;
        }
        Ok(None)
    }
}
