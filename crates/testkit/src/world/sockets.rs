//! What a reactor does for the workers, and what happens to bytes on their way.

use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;
use tidewire_core::{Framing, Linger, Opening, Wire};
use tidewire_protocol::Disconnect;
use tidewire_protocol::frame::append_command;

use super::{Event, World};
use crate::client::{Phase, Then, Whim};
use crate::fault::Fault;
use crate::frames::close_frame;
use crate::link::{Link, Passage};

/// How long the node waits for a client's close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long a write may make no progress.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks of a client at what is overdue.
const LOOK_EVERY: Duration = Duration::from_millis(500);

// === impl World: a socket's life ===

impl World {
    pub(super) fn open(&mut self, client: usize) {
        if self.clients[client].phase != Phase::Away {
            return;
        }
        let number = self.links.len();
        let worker = self.any_thread();
        let draw = self.draw.fork(&format!("link {number}"));
        let troubled = self.env.is_troubled();
        let mut link = Link::new(client, worker, &self.plan.rates, troubled, draw);
        let rates = &self.plan.rates;
        if troubled && link.strikes(rates.chance(Fault::BlackHole) * 2.0) {
            let wait = link.wait(0, 15_000);
            self.env.after(wait, Event::Hole { link: number });
        }
        self.env.after(link.latency(), Event::Accept { link: number });
        self.links.push(link);
        self.lines[client] = Some(number);
        self.reads_from[client] = self.env.now();
        self.env.note(format_args!("client {client} opens link {number} to worker {worker}"));
        self.clients[client].opened();
        self.send_commands(client);
    }

    pub(super) fn accept(&mut self, number: usize) {
        let link = &self.links[number];
        if !self.hosts[self.threads[link.worker].host].is_alive() {
            let wait = link.latency();
            return self.env.after(wait, Event::ClientEnd { link: number });
        }
        let (worker, encoding) = (link.worker, self.clients[link.client].encoding);
        let opening =
            Opening { wire: Wire { encoding, framing: Framing::WebSocket }, request: Default::default() };
        let now = self.now();
        let key = self.threads[worker].worker.open(opening, now);
        let keys = &mut self.threads[worker].keys;
        if keys.len() <= key.index() {
            keys.resize(key.index() + 1, None);
        }
        keys[key.index()] = Some(number);
        self.links[number].key = Some(key);
        self.settle(worker);
    }

    pub(super) fn begin_hole(&mut self, number: usize) {
        let link = &mut self.links[number];
        if self.env.is_troubled() && link.client_open && link.key.is_some() {
            self.env.fault(Fault::BlackHole);
            self.env.note(format_args!("link {number} is a hole"));
            link.hole = true;
        }
    }

    /// The client's end is over, by the node's word or without one.
    pub(super) fn client_end(&mut self, number: usize, code: Option<u16>) {
        let link = &mut self.links[number];
        if !std::mem::replace(&mut link.client_open, false) {
            return;
        }
        let client = link.client;
        link.arrived.clear();
        // A close or reset of the client's reaches the node, unless the link swallows it too.
        let wait = link.latency();
        if !link.hole {
            self.env.after(wait, Event::NodeEnd { link: number });
        }
        self.lines[client] = None;
        if let Some(at) = self.clients[client].ended(code) {
            self.env.at(at, Event::Open { client });
        }
    }

    /// The node's end is over.
    pub(super) fn node_end(&mut self, number: usize) {
        let link = &mut self.links[number];
        let Some(key) = link.key.take() else { return };
        let worker = link.worker;
        link.held.clear();
        self.threads[worker].keys[key.index()] = None;
        let wait = link.latency();
        if !link.hole && link.client_open {
            let at = link.down.last_at().max(self.env.now() + wait);
            self.env.at(at, Event::ClientEnd { link: number });
        }
        self.with_worker(worker, |worker, now| worker.gone(key, now));
    }
}

// === impl World: the node's end ===

impl World {
    /// A connection has news: writes what there is room for, closes it if it is to be closed, reads on.
    pub(super) fn serve(&mut self, number: usize) {
        self.write(number);
        let link = &self.links[number];
        let Some(key) = link.key else { return };
        let worker = &mut self.threads[link.worker].worker;
        match worker.closing(key).cloned() {
            Some(closing) if closing.linger == Linger::DropNow => {
                self.env.note(format_args!("link {number} dropped, {}", closing.disconnect.code));
                self.env.after(Duration::ZERO, Event::NodeEnd { link: number });
            }
            Some(closing) => {
                let written = worker.outbox(key).is_empty();
                let Disconnect { code, reason } = closing.disconnect;
                let link = &mut self.links[number];
                if !std::mem::replace(&mut link.closing, true) {
                    self.env.note(format_args!("link {number} closes, {code}"));
                    self.env.after(CLOSE_WAIT, Event::NodeEnd { link: number });
                }
                if written && !std::mem::replace(&mut link.close_sent, true) {
                    self.send_down(number, close_frame(code, &reason));
                }
            }
            None => {
                let now = self.now();
                let link = &self.links[number];
                self.threads[link.worker].worker.written(key, now);
                self.read_on(number);
            }
        }
    }

    /// Hands over messages as long as the node wants to read.
    fn read_on(&mut self, number: usize) {
        loop {
            let now = self.now();
            let link = &mut self.links[number];
            let Some(key) = link.key else { return };
            let worker = &mut self.threads[link.worker].worker;
            if !worker.wants_read(key) {
                return;
            }
            let Some(message) = link.held.pop_front() else { return };
            worker.message(key, message, now);
        }
    }

    fn write(&mut self, number: usize) {
        loop {
            let link = &mut self.links[number];
            let Some(key) = link.key else { return };
            let outbox = self.threads[link.worker].worker.outbox(key);
            let room = self.plan.window.saturating_sub(link.unread);
            if outbox.is_empty() {
                link.blocked_since = None;
                return;
            }
            if room == 0 {
                link.blocked_since.get_or_insert(self.env.now());
                return;
            }
            let mut slices: Vec<IoSlice<'_>> = Vec::new();
            outbox.slices(&mut slices, 16);
            let mut bytes: Vec<u8> = Vec::new();
            for slice in &slices {
                bytes.extend_from_slice(slice);
                if bytes.len() >= room {
                    break;
                }
            }
            bytes.truncate(room);
            drop(slices);
            if self.env.is_troubled() && link.strikes(self.plan.rates.chance(Fault::Split)) {
                self.env.fault(Fault::Split);
                bytes.truncate(link.piece(bytes.len()));
            }
            outbox.advance(bytes.len());
            link.blocked_since = None;
            self.send_down(number, Bytes::from(bytes));
        }
    }

    fn send_down(&mut self, number: usize, bytes: Bytes) {
        let (now, troubled) = (self.env.now(), self.env.is_troubled());
        let (passage, late) = self.links[number].send_down(bytes, now, troubled);
        if late {
            self.env.fault(Fault::LinkDelay);
        }
        match passage {
            Passage::Arrive(at, bytes) => self.env.at(at, Event::Down { link: number, bytes }),
            Passage::Cut(at, bytes) => {
                self.env.at(at, Event::Down { link: number, bytes });
                self.cut(number, at);
            }
            Passage::Vanish => {}
        }
    }

    /// Both ends find out, each in its own time.
    fn cut(&mut self, number: usize, at: Duration) {
        self.env.fault(Fault::Cut);
        self.env.note(format_args!("link {number} is cut"));
        let link = &mut self.links[number];
        link.hole = true;
        let notice = link.wait(0, 3_000);
        self.env.at(at, Event::ClientEnd { link: number });
        self.env.at(at + notice, Event::NodeEnd { link: number });
    }

    pub(super) fn writable(&mut self, number: usize) {
        self.serve(number);
        let worker = self.links[number].worker;
        self.settle(worker);
    }

    pub(super) fn reached_node(&mut self, number: usize, message: Bytes) {
        let link = &mut self.links[number];
        if link.key.is_none() {
            return;
        }
        let worker = link.worker;
        link.held.push_back(message);
        self.read_on(number);
        self.settle(worker);
    }

    /// Closes connections on which writing makes no progress.
    pub(super) fn check_writes(&mut self) {
        let now = self.env.now();
        for number in 0..self.links.len() {
            let link = &self.links[number];
            let stuck = link.blocked_since.is_some_and(|since| now >= since + WRITE_TIMEOUT)
                && self.threads[link.worker].stalled_until <= now;
            if let Some(key) = link.key.filter(|_| stuck) {
                let worker = link.worker;
                self.with_worker(worker, |worker, now| {
                    worker.close(key, Disconnect::WRITE_ERROR, now);
                });
                // A connection that was closing already stays as it is: its socket is dropped all the same.
                self.env.after(Duration::ZERO, Event::NodeEnd { link: number });
            }
        }
    }
}

// === impl World: the client's end ===

impl World {
    pub(super) fn reached_client(&mut self, number: usize, bytes: Bytes) {
        let link = &mut self.links[number];
        if !link.client_open {
            return;
        }
        link.arrived.push_back(bytes);
        let client = link.client;
        if self.reads_from[client] <= self.env.now() {
            self.read(client);
        }
    }

    /// The client reads everything that has arrived.
    pub(super) fn read(&mut self, client: usize) {
        let Some(number) = self.lines[client] else { return };
        let link = &mut self.links[number];
        if self.reads_from[client] > self.env.now() {
            return;
        }
        let mut read = 0;
        while let Some(bytes) = link.arrived.pop_front() {
            read += bytes.len();
            link.reader.push(&bytes);
        }
        link.unread = link.unread.saturating_sub(read);
        if read > 0 && link.blocked_since.is_some() {
            self.env.after(link.latency(), Event::Writable { link: number });
        }
        let mut then = Then::Stay;
        while then == Then::Stay {
            match link.reader.next() {
                Ok(Some(frame)) => then = self.clients[client].frame(frame),
                Ok(None) => break,
                Err(what) => {
                    let text = format!("client {client}: {what}");
                    self.env.record().violation(text);
                    then = Then::Close(None);
                }
            }
        }
        match then {
            Then::Stay => self.send_commands(client),
            Then::Close(code) => self.client_end(number, code),
        }
    }

    /// Sends what a client has to send, in one frame.
    pub(super) fn send_commands(&mut self, client: usize) {
        let commands = self.clients[client].take_commands();
        let Some(number) = self.lines[client].filter(|_| !commands.is_empty()) else {
            return;
        };
        let encoding = self.clients[client].encoding;
        let mut frame = Vec::new();
        for command in &commands {
            if let Err(error) = append_command(encoding, command, &mut frame) {
                let text = format!("client {client} cannot write a command: {error}");
                self.env.record().violation(text);
            }
        }
        self.env.note(format_args!(
            "client {client} sends {:?}",
            commands.iter().map(|command| command.id).collect::<Vec<_>>()
        ));
        let (now, troubled) = (self.env.now(), self.env.is_troubled());
        let (passage, late) = self.links[number].send_up(Bytes::from(frame), now, troubled);
        if late {
            self.env.fault(Fault::LinkDelay);
        }
        match passage {
            Passage::Arrive(at, message) => self.env.at(at, Event::Up { link: number, message }),
            Passage::Cut(at, _) => self.cut(number, at),
            Passage::Vanish => {}
        }
    }

    pub(super) fn act(&mut self, client: usize) {
        if !self.env.is_troubled() {
            return;
        }
        let wait = self.draw.around(self.plan.act_every);
        self.env.after(wait, Event::Act { client });
        match self.clients[client].act() {
            Whim::Stay => self.send_commands(client),
            Whim::Reconnect => {
                if let Some(link) = self.lines[client] {
                    self.client_end(link, None);
                }
            }
        }
    }

    pub(super) fn look_after(&mut self, client: usize) {
        if self.clients[client].phase == Phase::Left {
            return;
        }
        self.env.after(LOOK_EVERY, Event::LookAfter { client });
        self.slow_down_sometimes(client);
        let close = self.clients[client].look_after();
        match self.lines[client] {
            Some(link) if close => self.client_end(link, None),
            _ => self.send_commands(client),
        }
    }

    fn slow_down_sometimes(&mut self, client: usize) {
        let now = self.env.now();
        let chance = self.plan.rates.chance(Fault::SlowReader) * 0.2;
        if self.env.is_troubled() && self.reads_from[client] <= now && self.draw.chance(chance) {
            self.env.fault(Fault::SlowReader);
            let until = now + self.draw.millis(100, 8_000);
            self.env.note(format_args!("client {client} reads nothing until {until:?}"));
            self.reads_from[client] = until;
            self.env.at(until, Event::Read { client });
        }
    }

    /// Everyone leaves.
    pub(super) fn leave(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].leave();
            if let Some(link) = self.lines[client] {
                self.client_end(link, None);
            }
        }
    }
}
