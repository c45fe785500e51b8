//! One tracked file as the rules see it: its text, and the same text with only the code or only the comments left.

use std::path::Path;

/// A tracked text file.
///
/// `code` and `comments` have the length and the line breaks of `text`; what does not belong to them is blank. So a rule can look for a name
/// without meeting it in a string, and still say on which line it stands.
pub struct Source {
    /// From the root of the workspace, with forward slashes.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// Rust only: without comments and without the content of strings; empty in other files.
    pub code: String,
    /// Rust only: the comments; empty in other files.
    pub comments: String,
}

impl Source {
    /// The file `path` that holds `text`.
    pub fn new(path: &str, text: &str) -> Self {
        let (code, comments) = if is_rust(path) { split(text) } else { (String::new(), String::new()) };
        Self { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    /// Whether this is Rust source.
    pub fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// Whether the whole file is there for tests only.
    pub fn is_test(&self) -> bool {
        let mut folders: Vec<&str> = self.path.split('/').collect();
        let name = folders.pop().unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        folders.iter().any(|folder| matches!(*folder, "test" | "tests" | "fixtures" | "generated"))
            || matches!(stem, "test" | "tests")
    }

    /// Where the unit tests at the end of the file begin, or its length.
    pub fn tests_start(&self) -> usize {
        let mut from = 0;
        while let Some(found) = self.code[from..].find("#[cfg(test)]") {
            let start = from + found;
            let after = start + "#[cfg(test)]".len();
            let item = skip_attributes(&self.code[after..]).trim_start_matches("pub ");
            // Only a module: a single item for tests may stand anywhere, and code that is measured follows it.
            let head = item.split(['{', ';']).next().unwrap_or_default();
            if item.starts_with("mod ") && item[head.len()..].starts_with('{') {
                return start;
            }
            from = after;
        }
        self.code.len()
    }

    /// The line, from 1, of a position in the text.
    pub fn line(&self, position: usize) -> usize {
        self.text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn skip_attributes(code: &str) -> &str {
    let mut rest = code.trim_start();
    while rest.starts_with("#[") {
        let Some(end) = rest.find(']') else { return rest };
        rest = rest[end + 1..].trim_start();
    }
    rest
}

/// The positions at which `word` stands in `code` as a whole word.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(position, _)| position).filter(move |position| {
        let before = code[..*position].chars().next_back();
        let after = code[position + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The position behind the bracket that closes the one at `open`, or none if it stays open.
pub fn behind_closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (offset, byte) in code.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(open + offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// The code and the comments of `text`, each blank where the other or a string stands.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut comments = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (kind, end) = next_token(bytes, at);
        for byte in &bytes[at..end] {
            let line_break = *byte == b'\n';
            code.push(if line_break || kind == Kind::Code { *byte } else { b' ' });
            comments.push(if line_break || kind == Kind::Comment { *byte } else { b' ' });
        }
        at = end;
    }
    let valid = "a token ends where a character ends";
    (String::from_utf8(code).expect(valid), String::from_utf8(comments).expect(valid))
}

/// What stands at `at`, and where it ends.
fn next_token(bytes: &[u8], at: usize) -> (Kind, usize) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return (Kind::Comment, at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return (Kind::Comment, at + block_comment(rest));
    }
    if rest[0] == b'"' {
        return (Kind::Literal, at + quoted(rest));
    }
    if rest[0] == b'\'' {
        // A quote that opens no character belongs to a lifetime, which is code.
        return character(rest).map_or((Kind::Code, at + 1), |length| (Kind::Literal, at + length));
    }
    if is_name(rest[0]) {
        let name = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
        if matches!(&rest[..name], b"r" | b"br" | b"cr")
            && let Some(length) = raw(&rest[name..])
        {
            return (Kind::Literal, at + name + length);
        }
        return (Kind::Code, at + name);
    }
    (Kind::Code, at + 1)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The length of the block comment that `rest` begins with; block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string that `rest` begins with.
fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of the character literal that `rest` begins with.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(3 + end + 1);
    }
    let width = match rest.get(1)? {
        0x00..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

/// The length of the hashes and the string of a raw string, from behind its prefix.
fn raw(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let mut closing = vec![b'"'];
    closing.resize(hashes + 1, b'#');
    let content = &rest[hashes + 1..];
    let end = content.windows(closing.len()).position(|window| window == closing);
    Some(end.map_or(rest.len(), |end| hashes + 1 + end + closing.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A brace in a string or a quote in a comment must not shift what every rule counts behind it.
    #[test]
    fn strings_and_comments_are_not_code() {
        let text = r##"let a = "{ // \" {"; /* { /* } */ " */ let b = '{'; let c: &'a str = r#"" }"#; // it's {"##;
        let source = Source::new("a.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert!(!source.code.contains(['{', '}', '"']), "{}", source.code);
        assert!(source.code.contains("let b =") && source.code.contains("let c: &'a str ="), "{}", source.code);
        assert!(source.comments.contains("// it's {") && !source.comments.contains("// \\"), "{}", source.comments);
    }

    // If any `#[cfg(test)]` began the tests, a single import for tests near the top would hide the whole file from the rules.
    #[test]
    fn only_a_module_begins_the_tests() {
        let item = "#[cfg(test)]\nuse std::fmt;\nfn a() {}\n";
        assert_eq!(Source::new("a.rs", item).tests_start(), item.len());
        let module = format!("{item}#[cfg(test)]\n#[expect(x)]\nmod tests {{}}\n");
        assert_eq!(Source::new("a.rs", &module).tests_start(), item.len());
        let elsewhere = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert_eq!(Source::new("a.rs", elsewhere).tests_start(), elsewhere.len());
    }

    #[test]
    fn a_word_is_found_whole() {
        let found: Vec<usize> = words("sled sleds unsled (sled)", "sled").collect();
        assert_eq!(found, [0, 19]);
    }
}
