//! Frames as bytes: another version of this library reads them.

use serde_json::json;

use super::*;
use crate::engine::EventKind;
use crate::executor::Change;
use crate::executor::share::wire;
use crate::operation::{Answer, CollectionName, Entry, Page, Version};
use crate::store::document::Document;

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn frame(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = take_frame(&mut buffer, MAX_ANSWER_BYTES).unwrap().expect("a whole frame");
    assert!(buffer.is_empty());
    frame
}

fn get() -> Operation {
    Operation::Get { collection: CollectionName::new("things").unwrap(), id: "a".into() }
}

fn requests() -> Vec<Request> {
    let document = Document::parse(r#"{"n":1.10}"#).unwrap();
    let collection = CollectionName::new("things").unwrap();
    let write = |idempotency_key| Request::Write {
        session: SessionCall { session: *b"0123456789abcdef", slot: 515, number: 7 },
        wait: Duration::from_millis(1_500),
        idempotency_key,
        operation: Operation::Create { collection: collection.clone(), document: document.clone(), ttl_ms: None },
    };
    vec![
        Request::Read(get()),
        write(None),
        write(Some("k".into())),
        Request::Seek(FeedStart::Now),
        Request::Seek(FeedStart::Oldest),
        Request::Seek(FeedStart::After("c".into())),
        Request::Changes("c".into()),
        Request::ChangesNow("c".into()),
        Request::Committed,
        Request::Ready,
        Request::Info,
        Request::Check,
        Request::Cancel,
    ]
}

/// A fleet is updated one process after another: bytes that change here make the old and the new ones strangers.
#[test]
fn frames_keep_their_bytes() {
    let read = hex(br#"{"get":{"collection":"things","id":"a"}}"#);
    let write = hex(br#"{"create":{"collection":"things","document":{"n":1.10},"ttl_ms":null}}"#);
    let session = hex(b"0123456789abcdef");
    let expected = [
        format!("000000310200000000000000{:02x}{read}", 7),
        format!("00000066030000000000000007{session}0203000005dc00{write}"),
        format!("0000006b030000000000000007{session}0203000005dc01000000016b{write}"),
        "0000000a04000000000000000700".into(),
        "0000000a04000000000000000701".into(),
        "0000000f040000000000000007020000000163".into(),
        "0000000e0500000000000000070000000163".into(),
        "0000000e0600000000000000070000000163".into(),
        "00000009070000000000000007".into(),
        "00000009080000000000000007".into(),
        "00000009090000000000000007".into(),
        "000000090a0000000000000007".into(),
        "000000090b0000000000000007".into(),
    ];
    for (request, expected) in requests().into_iter().zip(expected) {
        let mut bytes = Vec::new();
        request.put(&mut bytes, 7);
        assert_eq!(hex(&bytes), expected, "{request:?}");
        let frame = frame(&bytes);
        assert_eq!(frame.number, 7);
        assert_eq!(Request::read(frame).unwrap(), request);
    }
    let mut bytes = Vec::new();
    Hello { lowest: 1, highest: 2, pid: 3 }.put(&mut bytes);
    assert_eq!(hex(&bytes), "000000160100000000000000006b617070610001000200000003");
    let mut bytes = Vec::new();
    Welcome { version: 1, pid: 3, database: [7; 16], now: 9 }.put(&mut bytes);
    let database = "07".repeat(16);
    assert_eq!(hex(&bytes), format!("00000027400000000000000000000100000003{database}0000000000000009"));
}

/// A frame is made before its number is known, see [`set_session`]: at another place it would be another call.
#[test]
fn a_frame_can_be_numbered_afterwards() {
    let session = SessionCall { session: [9; 16], slot: 1_023, number: 77 };
    let blank = SessionCall { session: [0; 16], slot: 0, number: 0 };
    let (mut late, mut early) = (Vec::new(), Vec::new());
    put_write(&mut late, &blank, Duration::ZERO, Some("k"), &get());
    set_session(&mut late, &session);
    put_write(&mut early, &session, Duration::ZERO, Some("k"), &get());
    assert_eq!(hex(&late), hex(&early));
}

#[test]
fn answers_keep_their_bytes_and_come_back() {
    let entry = Entry { id: "a".into(), version: Version(258), document: Document::parse(r#"{"id":"a"}"#).unwrap() };
    let told = "000000016100000000000001020000000a7b226964223a2261227d";
    let page = Page { entries: vec![entry.clone()], next: Some("c".into()) };
    let cases = [
        (Answer::Written(entry.clone()), format!("00{told}")),
        (Answer::Deleted(true), "0101".into()),
        (Answer::Entry(None), "0200".into()),
        (Answer::Entry(Some(entry.clone())), format!("0201{told}")),
        (Answer::Entries(vec![None, Some(entry)]), format!("03000000020001{told}")),
        (Answer::Count(5), "040000000000000005".into()),
        (Answer::Page(page), format!("0500000001{told}010000000163")),
        (
            Answer::Batch(vec![Answer::Deleted(false), Answer::Count(1)]),
            "0600000002010004".to_owned() + "0000000000000001",
        ),
        (Answer::More(true), "0701".into()),
        (Answer::Collections(Vec::new()), format!("0800000012{}", hex(br#"{"collections":[]}"#))),
    ];
    for (answer, expected) in cases {
        let mut bytes = Vec::new();
        wire::put_answer(&mut bytes, &answer);
        assert_eq!(hex(&bytes), expected, "{answer:?}");
        assert_eq!(Reader::new(bytes.into()).answer().unwrap(), answer);
    }
}

#[test]
fn changes_and_errors_come_back() {
    let change = |kind, document| Change {
        cursor: "c".into(),
        collection: "things".into(),
        id: "a".into(),
        kind,
        version: Version(1 << 40),
        time: -1,
        document,
    };
    let document = Some(Document::new(&json!({"n": 1})).unwrap());
    let changes = vec![change(EventKind::Created, document), change(EventKind::Expired, None)];
    let mut bytes = Vec::new();
    wire::put_changes(&mut bytes, &changes, "behind");
    let (back, behind) = Reader::new(bytes.into()).changes().unwrap();
    assert_eq!((format!("{back:?}"), behind.as_str()), (format!("{changes:?}"), "behind"));
    for kind in ErrorKind::ALL {
        let cause = std::io::Error::other("below");
        let error = Error::new(*kind, "what to do").with("id", 42).during("things.get").caused_by(cause);
        let mut bytes = Vec::new();
        put_error(&mut bytes, &error);
        let back = Reader::new(bytes.into()).error().unwrap();
        assert_eq!((back.kind(), back.to_string()), (*kind, error.to_string()));
        assert_eq!((back.operation(), back.context()), (error.operation(), error.context()));
    }
}

/// A peer that is broken, or no peer at all, must get an error: never a panic, a wait without end, or memory for
/// what it only claims to send.
#[test]
fn what_is_no_message_is_refused() {
    for request in requests() {
        let mut bytes = Vec::new();
        request.put(&mut bytes, 7);
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            assert!(take_frame(&mut buffer, 1_000).unwrap().is_none(), "half a frame is waited for");
            let Frame { kind, number, body } = frame(&bytes);
            let shorter = body.slice(..cut.min(body.len()));
            let whole = shorter.len() == body.len();
            let read = Request::read(Frame { kind, number, body: shorter });
            assert!(whole || read.is_err(), "{request:?} cut={cut}");
        }
        assert!(take_frame(&mut BytesMut::from(&bytes[..]), 8).is_err(), "longer than allowed");
    }
    for bytes in [&[0; 16][..], &[0xff; 64], b"GET / HTTP/1.1\r\n\r\n", &[0, 0, 0, 8, 1, 2, 3, 4, 5]] {
        assert!(take_frame(&mut BytesMut::from(bytes), MAX_REQUEST_BYTES).is_err(), "{bytes:?}");
    }
    // Counts and lengths that the message does not have; answers that hold answers without end.
    for bytes in [&[3, 0xff, 0xff, 0xff, 0xff][..], &[0, 0xff, 0xff, 0xff, 0xff], &[6, 0, 0, 0, 1].repeat(50), &[99]] {
        assert!(Reader::new(Bytes::copy_from_slice(bytes)).answer().is_err(), "{bytes:?}");
    }
    let unknown = Request::read(Frame { kind: 50, number: 1, body: Bytes::new() }).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unsupported);
    let body = Bytes::from_static(br#"{"levitate":{}}"#);
    let unknown = Request::read(Frame { kind: kind::READ, number: 1, body }).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unsupported);
}

/// Neighbouring versions must find the newest that both speak, and others hear so instead of being misread.
#[test]
fn versions_agree_or_say_why_not() {
    let hello = |lowest, highest| Hello { lowest, highest, pid: 1 };
    assert_eq!(hello(LOWEST, HIGHEST).agree().unwrap(), HIGHEST);
    assert_eq!(hello(LOWEST, HIGHEST + 1).agree().unwrap(), HIGHEST, "a newer client speaks the older one");
    let error = hello(HIGHEST + 1, HIGHEST + 2).agree().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let mut bytes = Vec::new();
    put_answered(&mut bytes, 0, &Err(error));
    assert_eq!(Welcome::read(frame(&bytes)).unwrap_err().kind(), ErrorKind::Unsupported);
}
