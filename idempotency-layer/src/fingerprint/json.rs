//! The canonical form of a JSON body.
//!
//! The parser is our own because `serde_json` converts numbers to doubles: 10000000000000001
//! becomes 10000000000000000. Its feature `arbitrary_precision` would keep them, but it would
//! change every use of `serde_json` in the user's build.

use memchr::memchr2;
use sha2::{Digest, Sha256};

/// The maximum depth of arrays and objects, which bounds the recursion.
const DEPTH: usize = 128;

/// Ends a string or a number. This byte occurs neither in UTF-8 nor in the encoding of lone
/// surrogates.
const END: u8 = 0xff;

/// The canonical form of `body`, or `None` if it is not JSON in UTF-8, has one name twice in an
/// object, or is nested deeper than [`DEPTH`].
///
/// | value | form |
/// |---|---|
/// | literal | `t`, `f` or `n` |
/// | number | `0`, its text, [`END`] |
/// | string | `"`, its value, [`END`] |
/// | array | `[`, the forms of its items, `]` |
/// | object without members | `}` |
/// | object | `{`, the SHA-256 of its members in the order of their names: name, [`END`], form |
///
/// No form is the beginning of another, so a sequence of forms can be read in one way only. An
/// object is hashed when it closes, from the slices of its members. So sorting moves no bytes, and
/// no byte is hashed again at an outer level: any body takes O(n log n) time and O(n) memory.
pub(super) fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(body).ok()?;
    let mut parser = Parser { rest: body, out: Vec::with_capacity(body.len()), members: Vec::new() };
    parser.value(DEPTH)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(parser.out)
}

struct Parser<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    /// Members of the objects that are open, outermost first.
    members: Vec<Member>,
}

/// Where in `out` a member begins, its value begins, and it ends.
struct Member {
    name: usize,
    value: usize,
    end: usize,
}

impl Parser<'_> {
    fn value(&mut self, room: usize) -> Option<()> {
        self.skip_space();
        match self.rest.first()? {
            b'{' => self.object(room.checked_sub(1)?),
            b'[' => self.array(room.checked_sub(1)?),
            b'"' => {
                self.out.push(b'"');
                self.string()
            }
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, room: usize) -> Option<()> {
        let (start, outer) = (self.out.len(), self.members.len());
        self.expect(b'{')?;
        if self.next_is(b'}') {
            self.out.push(b'}');
            return Some(());
        }
        loop {
            let name = self.out.len();
            self.string()?;
            let value = self.out.len();
            self.expect(b':')?;
            self.value(room)?;
            self.members.push(Member { name, value, end: self.out.len() });
            if self.next_is(b'}') {
                return self.close_object(start, outer);
            }
            self.expect(b',')?;
        }
    }

    fn close_object(&mut self, start: usize, outer: usize) -> Option<()> {
        let (out, members) = (&self.out, &mut self.members[outer..]);
        let name = |member: &Member| &out[member.name..member.value];
        members.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        if members.windows(2).any(|pair| name(&pair[0]) == name(&pair[1])) {
            return None;
        }
        let mut hasher = Sha256::new();
        for member in members {
            hasher.update(&out[member.name..member.end]);
        }
        self.members.truncate(outer);
        self.out.truncate(start);
        self.out.push(b'{');
        self.out.extend_from_slice(&hasher.finalize());
        Some(())
    }

    fn array(&mut self, room: usize) -> Option<()> {
        self.expect(b'[')?;
        self.out.push(b'[');
        if !self.next_is(b']') {
            self.value(room)?;
            while !self.next_is(b']') {
                self.expect(b',')?;
                self.value(room)?;
            }
        }
        self.out.push(b']');
        Some(())
    }

    fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        self.out.push(text[0]);
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let text = self.rest;
        let mut tail = text.strip_prefix(b"-").unwrap_or(text);
        tail = tail.strip_prefix(b"0").or_else(|| skip_digits(tail))?;
        if let Some(fraction) = tail.strip_prefix(b".") {
            tail = skip_digits(fraction)?;
        }
        if let [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] = tail {
            tail = skip_digits(exponent)?;
        }
        self.out.push(b'0');
        self.out.extend_from_slice(&text[..text.len() - tail.len()]);
        self.out.push(END);
        self.rest = tail;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            let (plain, stop) = self.rest.split_at(memchr2(b'"', b'\\', self.rest)?);
            // A fold, not `any`: without an early exit it is vectorised.
            if plain.iter().copied().fold(u8::MAX, u8::min) < 0x20 {
                return None;
            }
            self.out.extend_from_slice(plain);
            self.rest = &stop[1..];
            if stop[0] == b'"' {
                break;
            }
            self.escape()?;
        }
        self.out.push(END);
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        let (&letter, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.out.push(match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(),
            _ => return None,
        });
        Some(())
    }

    fn unicode_escape(&mut self) -> Option<()> {
        let (mut code, mut rest) = hex4(self.rest)?;
        if let (0xd800..0xdc00, [b'\\', b'u', next @ ..]) = (code, rest)
            && let Some((low @ 0xdc00..0xe000, next)) = hex4(next)
        {
            code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            rest = next;
        }
        self.rest = rest;
        if let Some(character) = char::from_u32(code) {
            self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            // A lone surrogate, in the three bytes that UTF-8 would give it. No valid string
            // contains them.
            let [.., high, low] = code.to_be_bytes();
            self.out.extend_from_slice(&[0xed, 0x80 | (high & 0x0f) << 2 | low >> 6, 0x80 | low & 0x3f]);
        }
        Some(())
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn next_is(&mut self, byte: u8) -> bool {
        self.expect(byte).is_some()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }
}

fn skip_digits(text: &[u8]) -> Option<&[u8]> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| &text[digits..])
}

fn hex4(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let code = digits.iter().try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))?;
    Some((code, rest))
}

#[cfg(test)]
mod tests;
