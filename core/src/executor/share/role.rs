//! Who owns the directory: finds the owner, follows it to its end, and takes its place.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::env::lock::DirectoryLock;
use crate::env::{lock, socket};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Pending;

use super::Setting;
use super::calls::{Awaited, Kind, Outcome, UnderWay};
use super::client::{Client, Stage, State};
use super::link::{Heard, Link};
use super::owner::Owner;
use super::protocol::{Frame, HIGHEST, Hello, LOWEST, MAX_REQUEST_BYTES, Request, Welcome, read_answered, take_frame};
use super::reading::Told;
use super::serve::{Served, serve};

/// Between two attempts to find the owner: at first,
const PAUSE: Duration = Duration::from_millis(1);
/// and at most.
const MAX_PAUSE: Duration = Duration::from_millis(20);
/// Behind a failure that will hardly be gone in a moment.
const LONG_PAUSE: Duration = Duration::from_millis(500);

/// What a look for the owner found.
pub enum Found {
    /// A living owner, and what it said first.
    Owner(Connected),
    /// Nobody; the lock is ours.
    Lock(DirectoryLock),
}

/// A connection to an owner that answers calls.
pub struct Connected {
    pub link: Arc<Link>,
    pub welcome: Welcome,
}

/// What a look should do next.
pub trait Look {
    /// Waits `pause`; false when there is no more looking.
    fn go_on(&self, pause: Duration) -> bool;
    /// Notes why there is no owner yet.
    fn note(&self, problem: Error);
}

/// Looks for the owner until there is one, or the seeker has had enough.
pub fn find(setting: &Setting, may_own: bool, seeker: &dyn Look) -> Option<Found> {
    let mut pause = PAUSE;
    loop {
        match connect(setting, may_own, seeker) {
            Ok(Some(found)) => return Some(found),
            Ok(None) => {}
            Err(problem) => {
                seeker.note(problem);
                pause = MAX_PAUSE;
            }
        }
        if may_own {
            match DirectoryLock::take(&setting.directory) {
                Ok(lock) => return Some(Found::Lock(lock)),
                Err(error) if error.kind() == ErrorKind::Locked => {}
                Err(error) => {
                    seeker.note(error);
                    pause = LONG_PAUSE;
                }
            }
        }
        if !seeker.go_on(pause) {
            return None;
        }
        pause = (2 * pause).min(MAX_PAUSE.max(pause));
    }
}

/// Connects and greets. None where nobody listens, or not any more.
fn connect(setting: &Setting, may_own: bool, seeker: &dyn Look) -> Result<Option<Found>> {
    let Ok(link) = socket::connect(&setting.directory).and_then(Link::new) else { return Ok(None) };
    let mut hello = Vec::new();
    Hello { lowest: LOWEST, highest: HIGHEST, pid: std::process::id() }.put(&mut hello);
    link.send(&hello);
    loop {
        let heard = link.receive(&mut link.inbox())?;
        match heard {
            Heard::Frames(frames) => {
                let Some(frame) = frames.into_iter().next() else { continue };
                let welcome = Welcome::read(frame)?;
                return Ok(Some(Found::Owner(Connected { link: Arc::new(link), welcome })));
            }
            Heard::End => return Ok(None),
            // The owner recovers, or is stopped. It may also be dead with a child of it holding the socket.
            Heard::Silence => {
                if may_own && let Ok(lock) = DirectoryLock::take(&setting.directory) {
                    return Ok(Some(Found::Lock(lock)));
                }
                if !seeker.go_on(Duration::ZERO) {
                    return Ok(None);
                }
            }
        }
    }
}

/// What the client's own thread does for as long as the client lives, or until it owns the data.
pub fn play(client: &Arc<Client>, found: Option<Found>) {
    let mut found = found;
    while !client.state().has_ended() {
        let next = found.take().or_else(|| find(&client.setting, client.may_own, &**client));
        match next {
            None => return,
            Some(Found::Owner(connected)) => found = follow(client, connected).map(Found::Lock),
            // What nobody asks any more is not opened first.
            Some(Found::Lock(_)) if client.state().has_ended() => return,
            Some(Found::Lock(lock)) => match take_over(client, lock) {
                Ok(()) => return,
                Err(problem) => {
                    tracing::warn!(error = %problem, "the data directory could not be taken over");
                    client.note(problem);
                    if !client.go_on(LONG_PAUSE) {
                        return;
                    }
                }
            },
        }
    }
}

impl Look for Client {
    fn go_on(&self, pause: Duration) -> bool {
        let state = self.state();
        if state.has_ended() {
            return false;
        }
        if pause.is_zero() {
            return true;
        }
        let state = self.changed.wait_timeout(state, pause);
        !state.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state).has_ended()
    }

    fn note(&self, problem: Error) {
        let mut state = self.state();
        state.problem = Some(problem);
        state.owner_pid = lock::holder(&self.setting.directory);
    }
}

/// Sends what is under way and hands out answers until the connection ends. Gives the lock where the owner is dead
/// although the connection stands.
fn follow(client: &Client, connected: Connected) -> Option<DirectoryLock> {
    let Connected { link, welcome } = connected;
    if !attach(client, &link, &welcome) {
        return None;
    }
    let mut callers_read = false;
    let mut lock = None;
    while let Some(mut reading) = client.take_reading(&link, callers_read) {
        let told = reading.listen();
        match told {
            Ok(Told::Answers { callers_read: theirs }) => {
                callers_read = theirs;
                continue;
            }
            Ok(Told::Silence) => {
                callers_read = false;
                let state = client.state();
                // While nobody asks, nobody minds.
                let asks = !state.calls.is_empty();
                drop(state);
                if asks && client.may_own {
                    lock = DirectoryLock::take(&client.setting.directory).ok();
                }
                if lock.is_none() {
                    continue;
                }
            }
            Ok(Told::End) => {}
            Err(error) => client.note(error),
        }
        // Before the reading is given back: nobody should begin with a connection that is over.
        leave(client, &link);
        return lock;
    }
    leave(client, &link);
    None
}

/// Ends a connection; what is under way waits for the next one.
pub fn leave(client: &Client, link: &Link) {
    link.end();
    let mut state = client.state();
    state.link = None;
    // Whoever waits for a commit looks for changes again, wherever they are by then.
    let waiting = state.calls.remove_all(|call| call.kind == Kind::Committed);
    drop(state);
    end_all(waiting, || Outcome::Moved);
}

fn end_all(calls: Vec<UnderWay>, outcome: impl Fn() -> Outcome) {
    for call in calls {
        call.end(outcome());
    }
}

/// Sends everything that is under way; false when the client has ended.
pub fn attach(client: &Client, link: &Arc<Link>, welcome: &Welcome) -> bool {
    let boot = client.boot_ms();
    let mut state = client.state();
    if state.has_ended() {
        return false;
    }
    let strangers = of_another_database(&mut state, welcome.database);
    state.owner_pid = Some(welcome.pid);
    state.problem = None;
    state.calls.begin_session(welcome.now, boot, client.chance());
    let waiting = state.calls.remove_all(|call| call.kind == Kind::Committed);
    let frames: Vec<Bytes> = state.calls.frames();
    state.link = Some(Arc::clone(link));
    drop(state);
    end_all(waiting, || Outcome::Moved);
    refuse(strangers);
    let mut unsent = false;
    for frame in frames {
        unsent |= link.send(&frame);
    }
    if unsent {
        client.flush_later();
    }
    client.ring_for_room();
    true
}

/// Calls must not be repeated in a directory that was replaced: there is no answer kept there.
fn of_another_database(state: &mut State, database: [u8; 16]) -> Vec<UnderWay> {
    if state.database.replace(database).is_none_or(|before| before == database) {
        return Vec::new();
    }
    state.calls.remove_all(|call| call.sent)
}

fn refuse(strangers: Vec<UnderWay>) {
    for call in strangers {
        let why = Error::new(ErrorKind::Unavailable, "another database lies in the directory now");
        let error = call.unanswered(&why);
        call.end(Outcome::Failed(error));
    }
}

/// Gives answers to their callers. Whether those block, all of them who asked, so that they can read the next ones for
/// themselves.
///
/// # Errors
/// What the owner says who lets this client go; when it sends what is no answer.
pub fn hand_out(client: &Client, frames: Vec<Frame>) -> Result<bool> {
    if frames.is_empty() {
        return Ok(false);
    }
    let mut answered = Vec::with_capacity(frames.len());
    let mut state = client.state();
    let mut broken = Ok(());
    for frame in frames {
        let number = frame.number;
        match read_answered(frame) {
            // The owner lets this client go, and says why.
            Ok(Err(error)) if number == 0 => broken = Err(error),
            Ok(result) => answered.extend(state.calls.remove(number).map(|call| (call, result))),
            Err(error) => broken = Err(error),
        }
    }
    let closing = state.stage != Stage::Open;
    drop(state);
    let any = |by| answered.iter().any(|(call, _)| call.awaited == by);
    let callers_read = any(Awaited::Blocking) && !any(Awaited::Polling);
    for (call, result) in answered {
        finish(call, result);
    }
    client.ring_for_room();
    if closing {
        client.changed.notify_all();
    }
    broken.map(|()| callers_read)
}

/// Opens the database in this process and does what is under way here, each call as the one it was.
fn take_over(client: &Client, lock: DirectoryLock) -> Result<()> {
    tracing::info!(directory = %client.setting.directory.display(), "this process takes over the data directory");
    let owner = Arc::new(Owner::open(&client.setting, lock)?);
    let mut state = client.state();
    if state.has_ended() {
        drop(state);
        return owner.close();
    }
    let strangers = of_another_database(&mut state, owner.local.database());
    let calls = state.calls.remove_all(|_| true);
    client.owner.set(Arc::clone(&owner)).expect("only this thread takes over, and once");
    drop(state);
    client.changed.notify_all();
    client.flush_later();
    client.ring_for_room();
    refuse(strangers);
    let mut later = Vec::new();
    for mut call in calls {
        call.repeated = call.sent;
        if matches!(call.kind, Kind::Changes | Kind::Committed) {
            call.end(Outcome::Moved);
            continue;
        }
        match request(&call).map(|request| serve(&owner.local, request)) {
            Ok(Served::Now(result)) => finish(call, result),
            Ok(Served::Later(mut pending)) => {
                // Polled once, so that all are on their way before the first is waited for.
                match Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => finish(call, result),
                    Poll::Pending => later.push((call, pending)),
                }
            }
            Err(error) => call.end(Outcome::Failed(error)),
        }
    }
    for (call, pending) in later {
        finish(call, Pending::wait(pending));
    }
    Ok(())
}

fn request(call: &UnderWay) -> Result<Request> {
    let mut buffer = BytesMut::from(&call.frame[..]);
    let frame = take_frame(&mut buffer, MAX_REQUEST_BYTES)?.expect("a frame that was made here is whole");
    Request::read(frame)
}

fn finish(call: UnderWay, result: Result<impl Into<Bytes>>) {
    let outcome = match result {
        Ok(body) => Outcome::Answered(body.into()),
        Err(error) => Outcome::Failed(call.refused(error)),
    };
    call.end(outcome);
}
