//! The calls of one client that are under way: numbered, bounded, each with its deadline.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::store::session::{SESSION_MS, SessionId, session_id};

/// Calls under way besides those that wait for changes; also how many answers of a session are kept at most.
pub const MAX_CALLS: usize = 1_024;
/// Calls that wait for changes.
const MAX_WAITS: usize = 4_096;

/// How a call ends.
#[derive(Debug)]
pub enum Outcome {
    /// The body of its answer.
    Answered(Bytes),
    Failed(Error),
    /// It was not done, and this process owns the data by now: ask there.
    Moved,
}

/// What the call is, as far as its fate depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Can be repeated at will.
    Read,
    /// Has a slot of the session, where its answer is kept.
    Write { slot: u16 },
    /// Waits for changes as long as its caller does.
    Changes,
    /// Wakes its caller, who looks again.
    Committed,
}

impl Kind {
    fn waits(self) -> bool {
        matches!(self, Self::Changes | Self::Committed)
    }
}

/// Who relies on somebody else to read the answer of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Nobody: its caller has not asked yet, or reads for itself.
    NotYet,
    /// A caller who blocks.
    Blocking,
    /// A caller who polls, and is woken.
    Polling,
    /// It must be read whether or not anybody asks.
    Anyway,
}

/// One call under way.
#[derive(Debug)]
pub struct UnderWay {
    pub kind: Kind,
    pub frame: Bytes,
    pub reply: Option<oneshot::Sender<Outcome>>,
    /// Time since boot at which it is given up.
    pub until: Option<u64>,
    /// An owner may have seen it.
    pub sent: bool,
    /// More than one may have.
    pub repeated: bool,
    pub awaited: Awaited,
}

impl UnderWay {
    /// Tells the caller, who may have left. Whatever it has woken may panic, which must cost neither the thread that reads
    /// nor the calls behind this one.
    pub fn end(self, outcome: Outcome) {
        let Some(reply) = self.reply else { return };
        if catch_unwind(AssertUnwindSafe(|| drop(reply.send(outcome)))).is_err() {
            tracing::error!("waking the caller of an answer panicked");
        }
    }

    /// What its caller hears when an owner refused it. Where one before may have done it, a refusal from before
    /// it was run again says nothing about that.
    pub fn refused(&self, why: Error) -> Error {
        let unrun = matches!(
            why.kind(),
            ErrorKind::Overloaded | ErrorKind::StorageFull | ErrorKind::Unavailable | ErrorKind::Closed
        );
        if self.repeated && unrun { self.unanswered(&why) } else { why }
    }

    /// What its caller hears when nobody answered it.
    pub fn unanswered(&self, why: &Error) -> Error {
        if matches!(self.kind, Kind::Write { .. }) && self.sent {
            let message = "the process that owns the data directory did not answer; the write may or may not be done";
            return Error::new(ErrorKind::Ambiguous, message).caused_by(why.clone());
        }
        why.clone()
    }
}

/// All of them.
#[derive(Debug)]
pub struct Calls {
    /// By number, which is the order in which they are sent again.
    under_way: BTreeMap<u64, UnderWay>,
    waits: usize,
    awaited: usize,
    bytes: usize,
    limit: usize,
    next: u64,
    slots: Vec<u16>,
    session: Option<Session>,
}

/// What new writes are numbered in.
#[derive(Clone, Copy, Debug)]
struct Session {
    id: SessionId,
    /// Engine time when it began,
    began: i64,
    /// and time since boot.
    boot: u64,
}

impl Calls {
    /// Calls of at most `limit` bytes together.
    pub fn new(limit: usize) -> Self {
        Self {
            under_way: BTreeMap::new(),
            waits: 0,
            awaited: 0,
            bytes: 0,
            limit,
            next: 1,
            slots: (0..MAX_CALLS as u16).rev().collect(),
            session: None,
        }
    }

    /// Begins a new session at engine time `now` and time since boot `boot`; calls under way keep theirs.
    pub fn begin_session(&mut self, now: i64, boot: u64, chance: [u8; 8]) {
        self.session = Some(Session { id: session_id(now, chance), began: now, boot });
    }

    /// The session that a new write belongs to, a younger one where it has grown old. None before an owner said what
    /// time it is: then no write can be numbered.
    pub fn session(&mut self, boot: u64, chance: impl FnOnce() -> [u8; 8]) -> Option<SessionId> {
        let session = self.session?;
        let age = boot.saturating_sub(session.boot);
        if age >= SESSION_MS {
            self.begin_session(session.began.saturating_add_unsigned(age), boot, chance());
        }
        self.session.map(|session| session.id)
    }

    /// Whether a call of so many bytes has room now.
    pub fn has_room(&self, waits: bool, bytes: usize) -> bool {
        if waits {
            return self.waits < MAX_WAITS;
        }
        let calls = self.under_way.len() - self.waits;
        // A call larger than everything is taken alone; otherwise it could never be.
        calls < MAX_CALLS && (self.bytes == 0 || self.bytes + bytes <= self.limit)
    }

    /// The number of the next call.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// A slot for a write, for which there is room.
    pub fn take_slot(&mut self) -> u16 {
        self.slots.pop().expect("there are as many slots as calls")
    }

    /// Adds a call under [`Calls::next_number`].
    pub fn add(&mut self, call: UnderWay) {
        if call.kind.waits() {
            self.waits += 1;
        } else {
            self.bytes += call.frame.len();
        }
        self.under_way.insert(self.next, call);
        self.next += 1;
    }

    /// Takes a call out; its slot is free again.
    pub fn remove(&mut self, number: u64) -> Option<UnderWay> {
        let call = self.under_way.remove(&number)?;
        if call.kind.waits() {
            self.waits -= 1;
        } else {
            self.bytes -= call.frame.len();
        }
        if let Kind::Write { slot } = call.kind {
            self.slots.push(slot);
        }
        self.awaited -= usize::from(call.awaited != Awaited::NotYet);
        Some(call)
    }

    /// The call with this number.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut UnderWay> {
        self.under_way.get_mut(&number)
    }

    /// Whether the call with this number is under way.
    pub fn contains(&self, number: u64) -> bool {
        self.under_way.contains_key(&number)
    }

    /// Notes who relies on others to read the answer of this one. Where the call is not under way any more, its answer is
    /// there.
    pub fn await_answer(&mut self, number: u64, by: Awaited) {
        if let Some(call) = self.under_way.get_mut(&number) {
            self.awaited += usize::from(call.awaited == Awaited::NotYet);
            call.awaited = by;
        }
    }

    /// Has the answers of those read that are given up by `until` although nobody has asked for them yet: they may be there.
    pub fn await_due(&mut self, until: u64) {
        for call in self.under_way.values_mut() {
            if call.awaited == Awaited::NotYet && call.until.is_some_and(|due| due <= until) {
                call.awaited = Awaited::Anyway;
                self.awaited += 1;
            }
        }
    }

    /// Whether anybody relies on others to read an answer.
    pub fn any_awaited(&self) -> bool {
        self.awaited > 0
    }

    /// Takes out every call that `which` says.
    pub fn remove_all(&mut self, which: impl Fn(&UnderWay) -> bool) -> Vec<UnderWay> {
        let numbers: Vec<u64> =
            self.under_way.iter().filter(|(_, call)| which(call)).map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// Every frame again, for a new connection.
    pub fn frames(&mut self) -> Vec<Bytes> {
        let mut frames = Vec::new();
        for call in self.under_way.values_mut() {
            call.repeated = call.sent;
            call.sent = true;
            frames.push(call.frame.clone());
        }
        frames
    }

    /// Whether nothing at all is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether nothing is under way but what waits for changes.
    pub fn is_idle(&self) -> bool {
        self.under_way.len() == self.waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(sent: bool) -> UnderWay {
        let kind = Kind::Write { slot: 0 };
        UnderWay {
            kind,
            frame: Bytes::new(),
            reply: None,
            until: None,
            sent,
            repeated: false,
            awaited: Awaited::NotYet,
        }
    }

    // The first owner wrote it and died before its answer; the second one has no room. Were its refusal passed on,
    // the caller would write again under another number.
    #[test]
    fn a_refusal_of_a_repeated_write_does_not_say_that_nothing_was_written() {
        let mut calls = Calls::new(1 << 20);
        let slot = calls.take_slot();
        calls.add(UnderWay { kind: Kind::Write { slot }, ..write(true) });
        calls.frames();
        let repeated = calls.remove(1).expect("it is under way");
        let full = || Error::new(ErrorKind::Overloaded, "no room");
        assert_eq!(repeated.refused(full()).kind(), ErrorKind::Ambiguous);
        assert_eq!(repeated.refused(Error::new(ErrorKind::NotFound, "none")).kind(), ErrorKind::NotFound);
        assert_eq!(write(true).refused(full()).kind(), ErrorKind::Overloaded, "only one owner ever saw it");
        let read = UnderWay { kind: Kind::Read, repeated: true, ..write(true) };
        assert_eq!(read.refused(full()).kind(), ErrorKind::Overloaded);
    }
}
