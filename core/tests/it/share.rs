//! Several processes on one directory: one owns it, and nobody has to notice which.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kappa_core::env::Env;
use kappa_core::{ErrorKind, FeedStart, Kappa, Mode, Options};
use rustix::process::Signal;

use crate::database::{self, open, small, tell};
use crate::member::{Forked, Member, Order, Told};

/// Longer than the deadline of any call.
const WITHIN: Duration = Duration::from_secs(60);

/// The tags that were answered; every call that failed is a failure of the test.
fn acked(members: &[&Member]) -> Vec<String> {
    let mut tags = Vec::new();
    for member in members {
        for told in member.news() {
            match told {
                Told::Acked { tag, .. } => tags.push(tag),
                Told::Refused { .. } => panic!("{told:?}"),
                _ => {}
            }
        }
    }
    tags
}

/// The longest that a call took, of all that were answered.
fn longest(members: &[&Member]) -> u64 {
    let news = members.iter().flat_map(|member| member.news());
    news.filter_map(|told| if let Told::Acked { took_ms, .. } = told { Some(took_ms) } else { None }).max().unwrap()
}

/// Every tag once, and all of `expected` among them.
fn once_each(tags: &[String], expected: &[String]) {
    let distinct: BTreeSet<&String> = tags.iter().collect();
    if distinct.len() < tags.len() {
        let mut counts = BTreeMap::new();
        for tag in tags {
            *counts.entry(tag).or_insert(0) += 1;
        }
        counts.retain(|_, count| *count > 1);
        panic!("written more than once: {counts:?}");
    }
    let lost: Vec<_> = expected.iter().filter(|tag| !distinct.contains(tag)).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
}

/// A second process of a fleet must work like the first one, not find the door locked.
#[test]
fn a_second_process_reads_and_writes_through_the_first() {
    let place = tempfile::tempdir().unwrap();
    let mut first = Member::open(place.path());
    let mut second = Member::open(place.path());
    assert_eq!(first.info(), ("owner".into(), first.pid()));
    assert_eq!(second.info(), ("client".into(), first.pid()));
    first.must(&Order::Create("a".into()));
    second.must(&Order::Create("b".into()));
    let many: Vec<String> = (0..300).map(|n| format!("c{n:03}")).collect();
    second.must(&Order::CreateAll(many.clone()));
    let expected: Vec<String> = ["a".to_owned(), "b".to_owned()].into_iter().chain(many).collect();
    assert_eq!(second.tags(), expected);
    assert_eq!(first.tags(), expected);
    assert_eq!(second.end(), Some(0));
    assert_eq!(first.tags(), expected);
    assert_eq!(first.end(), Some(0));
}

/// Whoever asks for the directory alone, or never wants to own it, gets a clear answer.
#[test]
fn a_process_may_insist_on_its_role() {
    let place = tempfile::tempdir().unwrap();
    let try_open = |mode, deadline_ms| {
        let mut member = Member::spawn();
        let directory = place.path().to_owned();
        let told = member.ask(&Order::Open { directory, mode: String::from(mode), deadline_ms });
        (member, told)
    };
    let (_, told) = try_open("client", 200);
    assert!(matches!(&told, Told::Failed { kind, .. } if kind == "unavailable"), "{told:?}");
    let (mut first, told) = try_open("owner", 200);
    assert!(matches!(told, Told::Done), "{told:?}");
    let (_, told) = try_open("owner", 200);
    let pid = format!("pid={}", first.pid());
    assert!(matches!(&told, Told::Failed { kind, text } if kind == "locked" && text.contains(&pid)), "{told:?}");
    let (mut client, _) = try_open("client", 400);
    client.must(&Order::Create("a".into()));
    first.kill();
    let told = client.ask(&Order::Create("b".into()));
    assert!(matches!(&told, Told::Failed { kind, .. } if kind == "unavailable" || kind == "ambiguous"), "{told:?}");
    let (mut next, _) = try_open("auto", 10_000);
    assert_eq!(next.info().0, "owner", "a client never takes the directory");
    client.must(&Order::Create("c".into()));
}

/// A kill of the owner must cost its clients a moment, not a call: what was under way may be done already, and must not
/// be done again.
#[test]
fn killed_owners_lose_no_call_and_double_none() {
    let place = tempfile::tempdir().unwrap();
    let mut members: Vec<Member> = (0..3).map(|_| Member::open(place.path())).collect();
    let mut dead: Vec<Member> = Vec::new();
    let rounds = if database::rounds(1) > 1 { 30 } else { 4 };
    for (n, member) in members.iter_mut().enumerate() {
        member.must(&Order::Load { name: format!("m{n}"), threads: 4 });
    }
    for round in 0..rounds {
        for member in &members {
            let before = member.news().len();
            member.await_news(|news| news.len() > before + 40);
        }
        let pid = members[1].info().1;
        let owner = members.iter().position(|member| member.pid() == pid).unwrap();
        let mut killed = members.remove(owner);
        killed.kill();
        dead.push(killed);
        let mut next = Member::open(place.path());
        next.must(&Order::Load { name: format!("r{round}"), threads: 4 });
        members.push(next);
    }
    for member in &mut members {
        member.must(&Order::StopLoad);
    }
    let all: Vec<&Member> = members.iter().chain(&dead).collect();
    let answered = acked(&all);
    tell(&format!("answered={} takeovers={rounds} longest call {} ms", answered.len(), longest(&all)));
    let tags = members[0].tags();
    once_each(&tags, &answered);
    let mut feed = Member::open(place.path());
    feed.must(&Order::Follow(None));
    feed.await_news(|news| news.len() >= tags.len());
    let created = feed.news().into_iter().map(|told| if let Told::Change { tag, .. } = told { tag } else { panic!() });
    once_each(&created.collect::<Vec<_>>(), &tags);
}

/// Whoever updates a fleet one process after another must not see a single call fail.
#[test]
fn closing_owners_hand_over_without_a_failed_call() {
    let place = tempfile::tempdir().unwrap();
    let mut members: Vec<Member> = (0..2).map(|_| Member::open(place.path())).collect();
    let mut load = Member::open_as(place.path(), "client", 20_000);
    load.must(&Order::Load { name: "l".into(), threads: 4 });
    for _ in 0..4 {
        let before = load.news().len();
        load.await_news(|news| news.len() > before + 40);
        let mut old = members.remove(0);
        old.must(&Order::Close);
        assert_eq!(old.end(), Some(0));
        members.push(Member::open(place.path()));
        let pids: Vec<u32> = members.iter().map(Member::pid).collect();
        assert!(pids.contains(&members[0].info().1), "one of them took over");
    }
    load.must(&Order::StopLoad);
    let answered = acked(&[&load]);
    tell(&format!("answered={} longest call {} ms", answered.len(), longest(&[&load])));
    once_each(&load.tags(), &answered);
}

/// An owner that is stopped, or swapped out, lives: whoever took the directory from it would write beside it. Its
/// clients hear so in time.
#[test]
fn a_stopped_owner_is_never_robbed() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = Member::open(place.path());
    let mut client = Member::open_as(place.path(), "auto", 700);
    client.must(&Order::Create("before".into()));
    owner.stop();
    let told = client.ask(&Order::Create("doubt".into()));
    assert!(matches!(&told, Told::Failed { kind, .. } if kind == "ambiguous"), "{told:?}");
    let told = client.ask(&Order::Tags);
    let pid = format!("pid={}", owner.pid());
    assert!(matches!(&told, Told::Failed { kind, text } if kind == "unavailable" && text.contains(&pid)), "{told:?}");
    let mut late = Member::spawn();
    let told = late.ask(&Order::Open { directory: place.path().to_owned(), mode: "auto".into(), deadline_ms: 500 });
    assert!(matches!(&told, Told::Failed { kind, .. } if kind == "unavailable"), "{told:?}");
    owner.signal(Signal::CONT);
    client.must(&Order::Create("after".into()));
    assert_eq!(client.info(), ("client".into(), owner.pid()));
    let tags = client.tags();
    once_each(&tags, &["before".into(), "after".into()]);
    assert_eq!(owner.tags(), tags);
}

/// A follower of the feed must not notice that the owner is another one: no gap, no change twice.
#[test]
fn a_feed_goes_on_behind_a_takeover() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = Member::open(place.path());
    let mut second = Member::open(place.path());
    let mut follower = Member::open_as(place.path(), "client", 20_000);
    follower.must(&Order::Follow(None));
    second.must(&Order::Load { name: "s".into(), threads: 4 });
    second.await_news(|news| news.len() > 60);
    owner.kill();
    let before = second.news().len();
    second.await_news(|news| news.len() > before + 60);
    second.must(&Order::StopLoad);
    let tags = second.tags();
    let news = follower.await_news(|news| news.len() >= tags.len());
    let heard: Vec<String> =
        news.into_iter().map(|told| if let Told::Change { tag, .. } = told { tag } else { panic!() }).collect();
    assert_eq!(heard, tags, "the feed is in the order of creation, each once");
    once_each(&tags, &acked(&[&second]));
}

/// A child that was forked and never speaks must not keep the directory, or the clients, of its dead parent.
#[test]
fn children_of_a_dead_owner_keep_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = Member::open(place.path());
    let mut client = Member::open(place.path());
    client.must(&Order::Create("a".into()));
    let Told::Forked { pid, .. } = owner.must(&Order::Fork(Forked::Idles)) else { panic!() };
    owner.kill();
    client.must(&Order::Create("b".into()));
    assert_eq!(client.info(), ("owner".into(), client.pid()));
    assert_eq!(client.tags(), ["a", "b"]);
    let child = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(child, Signal::KILL).expect("it lived all the time");
}

/// A worker forked from a process with an open handle, as gunicorn does, must be able to use that handle, or one
/// of its own; also where the fork came while other threads of its parent held every lock there is.
#[test]
fn a_forked_child_becomes_a_client_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = Member::open(place.path());
    let mut client = Member::open(place.path());
    let mut expected = Vec::new();
    owner.must(&Order::Load { name: "o".into(), threads: 3 });
    client.must(&Order::Load { name: "c".into(), threads: 3 });
    for round in 0..database::rounds(5) {
        for (name, member) in [("owner", &mut owner), ("client", &mut client)] {
            let tag = format!("{name}{round}");
            let forked = match round % 2 {
                0 => Forked::Creates(tag.clone()),
                _ => Forked::Opens { directory: place.path().to_owned(), tag: tag.clone() },
            };
            let told = member.must(&Order::Fork(forked));
            assert!(matches!(told, Told::Forked { status: Some(0), .. }), "{told:?}");
            expected.push(tag);
            let tag = format!("{name}{round}-parent");
            member.must(&Order::Create(tag.clone()));
            expected.push(tag);
        }
    }
    owner.must(&Order::StopLoad);
    client.must(&Order::StopLoad);
    expected.extend(acked(&[&owner, &client]));
    once_each(&owner.tags(), &expected);
    assert_eq!(client.end(), Some(0));
    assert_eq!(owner.end(), Some(0));
}

/// A shop whose takeover takes as long as reading all its data is closed after each crash.
#[test]
fn a_takeover_of_many_documents_is_quick() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = Member::open(place.path());
    let mut client = Member::open(place.path());
    let hundreds = if database::rounds(1) > 1 { 1_000 } else { 40 };
    for hundred in 0..hundreds {
        owner.must(&Order::CreateAll((0..100).map(|n| format!("{hundred}-{n}")).collect()));
    }
    client.must(&Order::Create("before".into()));
    owner.kill();
    client.must(&Order::Load { name: "after".into(), threads: 1 });
    client.await_news(|news| !news.is_empty());
    client.must(&Order::StopLoad);
    let took = longest(&[&client]);
    tell(&format!("documents={} takeover={took} ms", hundreds * 100));
    assert!(took < 2_000, "the takeover took {took} ms");
    assert_eq!(client.info().0, "owner");
    acked(&[&client]);
}

/// One who blocks on an answer reads for all, and frames are held back until somebody wants an answer: whoever came and went
/// in an unlucky moment would leave others waiting until their deadline.
#[test]
fn callers_who_read_for_each_other_leave_nobody_waiting() {
    let place = tempfile::tempdir().unwrap();
    let owner = open(place.path(), &small());
    let client = open(place.path(), &Options { mode: Mode::Client, ..small() });
    let things = client.collection(database::THINGS).unwrap();
    let made = |name: &str, number: u64| serde_json::json!({"id": format!("{name}-{number}")});
    let mut feed = client.feed(FeedStart::Now).wait().unwrap();
    let rounds = database::rounds(100);
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let things = &things;
            scope.spawn(move || {
                for number in 0..rounds {
                    let id = things.create(made(name, number)).wait().unwrap().id;
                    assert!(things.get(&id).wait().unwrap().is_some());
                }
            });
        }
        // Polled, as an event loop does: somebody else has to read.
        scope.spawn(|| {
            for number in 0..rounds {
                things.create(made("polled", number)).wait_for(WITHIN).expect("an answer").unwrap();
            }
        });
        // Many at once, of which the newest is asked for first, some are never asked for, and some are given up.
        scope.spawn(|| {
            for round in 0..rounds / 10 {
                let mut pending: Vec<_> = (0..32).map(|n| things.create(made("many", round * 32 + n))).collect();
                drop(pending.drain(..8));
                while let Some(newest) = pending.pop() {
                    newest.wait().unwrap();
                }
                drop(things.get("never asked for"));
            }
        });
        let expected = 3 * rounds + rounds / 10 * 32;
        let seen: BTreeSet<String> =
            (0..expected).map(|_| feed.next_within(WITHIN).unwrap().expect("a change").id).collect();
        assert_eq!(seen.len() as u64, expected, "each change once");
    });
    client.close().unwrap();
    owner.close().unwrap();
}

/// Two handles of one process must not fight over the lock, nor close each other.
#[test]
fn a_process_may_open_a_directory_twice() {
    let place = tempfile::tempdir().unwrap();
    let first = open(place.path(), &small());
    let second = open(place.path(), &small());
    let count = |kappa: &Kappa| kappa.collection(database::THINGS).unwrap().count().wait().unwrap();
    database::things(&second).create(serde_json::json!({"id": "a"})).wait().unwrap();
    assert_eq!((count(&first), count(&second)), (1, 1));
    assert_eq!((first.info().unwrap().role, second.info().unwrap().role), ("owner", "client"));
    let id = first.info().unwrap().id;
    assert_eq!(second.info().unwrap().id, id);
    first.close().unwrap();
    assert_eq!(count(&second), 1, "the second handle took over");
    assert_eq!((second.info().unwrap().role, second.info().unwrap().id), ("owner", id.clone()));
    assert_ne!(Kappa::in_memory(&small(), &Env::default()).unwrap().info().unwrap().id, id, "another database");
    let alone = Options { mode: Mode::Owner, ..small() };
    let error = Kappa::open_with(place.path(), &alone, &Env::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    second.close().unwrap();
}
