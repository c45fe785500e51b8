//! Answers as flat tapes: JSON text is parsed into one without the interpreter, and objects are made of it in few calls.

use std::borrow::Cow;
use std::cell::Cell;

use parking_lot::Mutex;

use super::Reader;

/// Deeper than any document that core takes; damaged text must not fill the stack.
const MAX_DEPTH: usize = 128;
/// Longer names are made anew each time.
const LONGEST_NAME: usize = 64;
/// A name is looked for among so many that came last; one of more is on the tape twice.
const RECENT: usize = 16;
/// A list of so many values may hold dicts of one shape; in a shorter one a template would not pay.
const MANY: usize = 8;
/// So many shapes are told apart, those of the beginnings of longer ones included.
const MOST_SHAPES: usize = 64;
/// Instead of the shape of a dict that has none of its own.
const NO_SHAPE: u32 = u32::MAX;
/// Where a text begins: the interpreter copies ASCII a word at a time from there on.
const WORD: usize = 8;
/// A tape of more bytes is not kept for the next answer.
const LARGEST_SPARE: usize = 1 << 20;
/// One of more bytes than these is kept for all threads, because it was made on another one than it is read on.
const SMALL_SPARE: usize = 64 << 10;
/// So many are kept for all threads.
const MOST_SPARES: usize = 8;

thread_local! {
    /// The last small tape that was read on this thread, for its memory.
    static SPARE: Cell<Option<Tape>> = const { Cell::new(None) };
}

/// Large tapes that were read, the one that is most likely still in a cache at the end.
///
/// Never waited for: a forked child may find it locked by a thread that is not there.
static LARGE: Mutex<Vec<Tape>> = Mutex::new(Vec::new());

/// One answer, in the order in which its objects are made: a list or dict, then what is in it.
///
/// It keeps nothing of what it was made from, so that documents end where the tape is made.
#[derive(Debug, Default)]
pub struct Tape {
    nodes: Vec<Node>,
    names: Vec<Name>,
    /// The number of the name that came last.
    last: u32,
    /// What dicts look like; empty as long as nothing says that there will be many.
    shapes: Vec<Shape>,
    texts: String,
}

/// One step of a tape.
#[derive(Clone, Copy, Debug)]
pub enum Node {
    Null,
    Flag(bool),
    Int(i64),
    Float(f64),
    /// A whole number of more digits.
    Digits(Span),
    /// A number with a fraction, all of whose digits are wanted.
    Decimal(Span),
    Text(Span),
    /// The name of a field that is kept in the tape once.
    Name(u32),
    /// So many values follow.
    List(u32),
    /// So many pairs follow, and the number of their shape.
    Dict(u32, u32),
    /// Instead of a value whose text is damaged: at which byte.
    Malformed(u32),
}

/// Where a text lies.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: u32,
    length: u32,
}

/// A name of fields, and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub text: Span,
    pub hash: u32,
    /// The name that came behind it: documents of one collection mostly have the same fields in one order.
    follower: u32,
}

/// The names of a dict in their order: those of a shorter shape, and one more.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub before: u32,
    pub name: u32,
    /// So many dicts look like this.
    pub dicts: u32,
    /// The longer shape that was met last, as the next one mostly is.
    longer: u32,
}

impl Tape {
    /// What `write` puts on a tape.
    pub fn of(write: impl FnOnce(&mut Self)) -> Self {
        let mut tape = Self::spare();
        write(&mut tape);
        tape
    }

    /// An empty tape, with the memory of a small one that was read on this thread.
    pub fn spare() -> Self {
        SPARE.take().unwrap_or_default()
    }

    /// Keeps the memory for another tape.
    pub fn recycle(mut self) {
        let bytes = self.nodes.capacity() * size_of::<Node>() + self.texts.capacity();
        if bytes > LARGEST_SPARE {
            return;
        }
        self.nodes.clear();
        self.names.clear();
        self.shapes.clear();
        self.texts.clear();
        self.last = 0;
        if bytes <= SMALL_SPARE {
            SPARE.set(Some(self));
        } else if let Some(mut large) = LARGE.try_lock().filter(|large| large.len() < MOST_SPARES) {
            large.push(self);
        }
    }

    /// Goes on with the memory of a large tape, if nothing is on this one yet.
    fn expect_much(&mut self) {
        if self.nodes.is_empty()
            && let Some(large) = LARGE.try_lock().and_then(|mut large| large.pop())
        {
            SPARE.set(Some(std::mem::replace(self, large)));
        }
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The names, by their numbers.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// What dicts look like, by the numbers of shapes; the first has no names.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// The bytes of all texts.
    pub fn bytes(&self) -> usize {
        self.texts.len()
    }

    pub fn text_at(&self, span: Span) -> &str {
        &self.texts[span.start as usize..][..span.length as usize]
    }

    pub fn null(&mut self) {
        self.nodes.push(Node::Null);
    }

    pub fn flag(&mut self, flag: bool) {
        self.nodes.push(Node::Flag(flag));
    }

    pub fn int(&mut self, number: i64) {
        self.nodes.push(Node::Int(number));
    }

    pub fn count(&mut self, number: u64) {
        let node = match i64::try_from(number) {
            Ok(small) => Node::Int(small),
            Err(_) => Node::Digits(self.keep(&number.to_string())),
        };
        self.nodes.push(node);
    }

    pub fn text(&mut self, text: &str) {
        let span = self.keep(text);
        self.nodes.push(Node::Text(span));
    }

    /// A list, whose `length` values follow.
    pub fn list(&mut self, length: usize) {
        if length >= MANY && self.shapes.is_empty() {
            self.expect_much();
            self.shapes.push(Shape { before: 0, name: 0, dicts: 0, longer: 0 });
        }
        self.nodes.push(Node::List(small(length)));
    }

    /// A dict, whose `length` pairs of a name and a value follow.
    pub fn dict(&mut self, length: usize) {
        self.nodes.push(Node::Dict(small(length), NO_SHAPE));
    }

    /// The name of the value that follows in a dict.
    pub fn name(&mut self, text: &str) {
        self.push_name(text);
    }

    /// The same; answers its number, unless it is too long for one.
    fn push_name(&mut self, text: &str) -> Option<u32> {
        let node = self.name_node(text);
        self.nodes.push(node);
        if let Node::Name(number) = node { Some(number) } else { None }
    }

    /// The value that `text` stands for; numbers are kept as `reader` wants them.
    pub fn json(&mut self, text: &str, reader: Reader) {
        self.nodes.reserve(text.len() / 16);
        self.texts.reserve(text.len());
        let begun = self.nodes.len();
        let mut parser = Parser { tape: self, text, at: 0, reader };
        if parser.value(0).and_then(|()| parser.end()).is_none() {
            let at = small(parser.at);
            self.nodes.truncate(begun);
            self.nodes.push(Node::Malformed(at));
        }
    }

    fn keep(&mut self, text: &str) -> Span {
        let filler = self.texts.len().wrapping_neg() % WORD;
        self.texts.push_str(&"        "[..filler]);
        let span = Span { start: small(self.texts.len()), length: small(text.len()) };
        self.texts.push_str(text);
        span
    }

    /// The shape of `shape` and one more name.
    fn longer(&mut self, shape: u32, name: Option<u32>) -> u32 {
        let (Some(known), Some(name)) = (self.shapes.get(shape as usize), name) else { return NO_SHAPE };
        let fits = |longer: &Shape| longer.before == shape && longer.name == name;
        if known.longer > 0 && fits(&self.shapes[known.longer as usize]) {
            return known.longer;
        }
        // The first has no names, so it is not longer than any.
        let longer = match self.shapes.iter().skip(1).position(fits) {
            Some(position) => small(position + 1),
            None if self.shapes.len() < MOST_SHAPES => {
                self.shapes.push(Shape { before: shape, name, dicts: 0, longer: 0 });
                small(self.shapes.len() - 1)
            }
            None => return NO_SHAPE,
        };
        self.shapes[shape as usize].longer = longer;
        longer
    }

    fn name_node(&mut self, text: &str) -> Node {
        if text.len() > LONGEST_NAME {
            return Node::Text(self.keep(text));
        }
        let expected = self.names.get(self.last as usize).map_or(0, |last| last.follower);
        let number = if self.is_name(expected, text) { expected } else { self.look_up(text) };
        self.names[self.last as usize].follower = number;
        self.last = number;
        Node::Name(number)
    }

    /// The number of a name, which is a new one unless it was met lately.
    fn look_up(&mut self, text: &str) -> u32 {
        let hash = hash(text.as_bytes());
        let known = self.names.iter().rev().take(RECENT).position(|name| name.hash == hash);
        if let Some(number) = known.map(|back| small(self.names.len() - 1 - back))
            && self.is_name(number, text)
        {
            return number;
        }
        let text = self.keep(text);
        self.names.push(Name { text, hash, follower: 0 });
        small(self.names.len() - 1)
    }

    fn is_name(&self, number: u32, text: &str) -> bool {
        self.names.get(number as usize).is_some_and(|name| self.text_at(name.text) == text)
    }
}

fn small(size: usize) -> u32 {
    u32::try_from(size).expect("an answer is at most some MiB")
}

/// FNV-1a, folded.
fn hash(name: &[u8]) -> u32 {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash ^ (hash >> 16)
}

/// Reads one text; where it is damaged the answer is none, and `at` is near that place.
struct Parser<'a> {
    tape: &'a mut Tape,
    text: &'a str,
    at: usize,
    reader: Reader,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let node = match self.next_token()? {
            b'"' => {
                let text = self.unquoted()?;
                Node::Text(self.tape.keep(&text))
            }
            b'{' => return self.object(depth),
            b'[' => return self.array(depth),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word("true", Node::Flag(true))?,
            b'f' => self.word("false", Node::Flag(false))?,
            b'n' => self.word("null", Node::Null)?,
            _ => return None,
        };
        self.tape.nodes.push(node);
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let begun = self.tape.nodes.len();
        self.tape.nodes.push(Node::Dict(0, NO_SHAPE));
        self.at += 1;
        let (mut length, mut shape) = (0, 0);
        if self.take(b'}') {
            return Some(());
        }
        loop {
            (self.next_token()? == b'"').then_some(())?;
            let name = self.unquoted()?;
            let number = self.tape.push_name(&name);
            shape = self.tape.longer(shape, number);
            self.take(b':').then_some(())?;
            self.value(depth + 1)?;
            length += 1;
            if !self.take(b',') {
                break;
            }
        }
        self.tape.nodes[begun] = Node::Dict(length, shape);
        if let Some(shape) = self.tape.shapes.get_mut(shape as usize) {
            shape.dicts += 1;
        }
        self.take(b'}').then_some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        let begun = self.tape.nodes.len();
        self.tape.nodes.push(Node::List(0));
        self.at += 1;
        let mut length = 0;
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            length += 1;
            if !self.take(b',') {
                break;
            }
        }
        self.tape.nodes[begun] = Node::List(length);
        self.take(b']').then_some(())
    }

    fn number(&mut self) -> Option<Node> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let number = &rest[..length.count()];
        self.at += number.len();
        if number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-')) {
            return Some(number.parse().map_or_else(|_| Node::Digits(self.tape.keep(number)), Node::Int));
        }
        if self.reader.decimals {
            return Some(Node::Decimal(self.tape.keep(number)));
        }
        number.parse().ok().map(Node::Float)
    }

    /// The content of the string whose quote is next.
    fn unquoted(&mut self) -> Option<Cow<'a, str>> {
        let text = self.text;
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            end += memchr::memchr2(b'"', b'\\', &text.as_bytes()[end..])?;
            if text.as_bytes()[end] == b'"' {
                break;
            }
            escaped = true;
            // The escaped character may be a quote.
            end += 2;
            (end <= text.len()).then_some(())?;
        }
        self.at = end + 1;
        if !escaped {
            return Some(Cow::Borrowed(&text[start..end]));
        }
        serde_json::from_str(&text[start - 1..=end]).ok().map(Cow::Owned)
    }

    fn word(&mut self, word: &str, meaning: Node) -> Option<Node> {
        self.text[self.at..].starts_with(word).then_some(())?;
        self.at += word.len();
        Some(meaning)
    }

    /// The byte that begins what follows.
    fn next_token(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Whether `byte` was next; then it is behind.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.next_token() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Whether nothing follows.
    fn end(&mut self) -> Option<()> {
        self.next_token().is_none().then_some(())
    }
}
