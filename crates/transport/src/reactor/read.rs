//! From the socket to the connection.

use std::io;

use super::driven::Driven;
use super::end::Farewell;
use super::event_loop::EventLoop;
use crate::tls::Received;
use crate::ws::{Event, Opcode, close_frame, server_frame};

impl<D: Driven> EventLoop<D> {
    /// Reads until the socket is empty or the connection has had its share of this turn.
    pub(super) fn read(&mut self, id: u32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut share = buffer.len();
        while let Some(entry) = self.entries.get_mut(id as usize).filter(|entry| !entry.paused) {
            match entry.socket.read(&mut buffer) {
                Ok(Received { bytes: 0, .. }) => self.ended_by_peer(id),
                Ok(Received { bytes: read, emptied }) => {
                    let emptied = emptied && !entry.read_closed;
                    // TLS answers some of what it reads, such as a wish for new keys.
                    if entry.socket.holds_output() {
                        self.list_to_write(id);
                    }
                    self.take_input(id, &mut buffer[..read]);
                    share = share.saturating_sub(read);
                    if emptied {
                        break;
                    }
                    if share == 0 {
                        self.list_to_read(id);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "read failed");
                    self.lost(id);
                }
            }
        }
        self.buffer = buffer;
    }

    /// Decodes input and hands on what is whole. Stops where the connection wants to be read no further.
    pub(super) fn take_input(&mut self, id: u32, input: &mut [u8]) {
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(id as usize) {
            let rest = input.get_mut(at..).unwrap_or_default();
            let Some(key) = entry.key.filter(|_| !entry.is_ending()) else {
                return self.take_input_while_ending(id, rest);
            };
            match entry.decoder.decode(&self.options.limits, self.now.mono, rest) {
                Ok((_, None)) => return,
                Ok((taken, Some(event))) => {
                    at += taken;
                    match event {
                        Event::Message { kind, payload } => {
                            self.driven.message(key, kind, payload, self.now);
                            self.run_tasks();
                        }
                        Event::Ping(payload) => {
                            self.driven.outbox(key).push(server_frame(Opcode::Pong, &payload));
                            self.list_to_write(id);
                        }
                        Event::Pong(_) => {}
                        Event::Close(reason) => {
                            let answer = reason.map_or_else(
                                || server_frame(Opcode::Close, &[]),
                                |reason| close_frame(reason.code, &reason.text),
                            );
                            return self.part(id, answer, Farewell::Answer);
                        }
                    }
                }
                Err(violation) => {
                    tracing::debug!(%violation, "websocket violation");
                    let frame = close_frame(violation.code(), &violation.to_string());
                    return self.part(id, frame, Farewell::Answer);
                }
            }
            if self.driven.closing(key).is_some() {
                // What follows is of no interest but for the peer's close frame.
                self.attend(id);
            } else if !self.driven.wants_read(key) {
                if let Some(entry) = self.entries.get_mut(id as usize) {
                    entry.pause(input.get(at..).unwrap_or_default());
                }
                return;
            }
        }
    }

    /// Goes on where [`EventLoop::take_input`] stopped for the connection's sake.
    pub(super) fn resume_reading(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let mut unread = entry.resume();
        self.take_input(id, &mut unread);
        // Edges that came in between were not followed.
        self.list_to_read(id);
    }
}
