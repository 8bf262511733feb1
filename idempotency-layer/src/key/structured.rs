//! A String of structured fields, as RFC 9651, section 4.2, reads it.
//!
//! The layer needs nothing else of that RFC, and a crate that parses all of it would raise the Rust
//! version that this crate requires.

/// Returns the String in a field that holds one Item: a String, and parameters that are checked and
/// ignored.
///
/// `None` for a field that RFC 9651 refuses, and for an Item of another type.
pub(super) fn parse_string(field: &[u8]) -> Option<String> {
    let mut input = Input(field);
    input.skip_spaces();
    let string = input.string()?;
    input.parameters()?;
    input.skip_spaces();
    input.0.is_empty().then_some(string)
}

/// The rest of the input. Each method consumes what it parses, and returns `None` if parsing fails.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn skip_spaces(&mut self) {
        self.take_while(|byte| byte == b' ');
    }

    /// Section 4.2.3.2, without the map, because no parameter is defined.
    fn parameters(&mut self) -> Option<()> {
        while self.next_if(|byte| byte == b';').is_some() {
            self.skip_spaces();
            self.next_if(|byte| byte.is_ascii_lowercase() || byte == b'*')?;
            self.take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
            if self.next_if(|byte| byte == b'=').is_some() {
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// Section 4.2.3.1.
    fn bare_item(&mut self) -> Option<()> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b'"' => self.string().map(drop),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.take_while(is_token);
                Some(())
            }
            b':' => self.byte_sequence(),
            b'?' => {
                self.next();
                self.next_if(|byte| byte == b'0' || byte == b'1').map(drop)
            }
            // Section 4.2.9: a Date is an Integer.
            b'@' => {
                self.next();
                (self.number()? == Number::Integer).then_some(())
            }
            b'%' => self.display_string(),
            _ => None,
        }
    }

    /// Section 4.2.4: at most 15 digits, or at most 12 before the point and one to three after it.
    fn number(&mut self) -> Option<Number> {
        self.next_if(|byte| byte == b'-');
        let whole = self.take_while(|byte| byte.is_ascii_digit()).len();
        if self.next_if(|byte| byte == b'.').is_none() {
            return (1..=15).contains(&whole).then_some(Number::Integer);
        }
        let fraction = self.take_while(|byte| byte.is_ascii_digit()).len();
        ((1..=12).contains(&whole) && (1..=3).contains(&fraction)).then_some(Number::Decimal)
    }

    /// Section 4.2.5.
    fn string(&mut self) -> Option<String> {
        self.next_if(|byte| byte == b'"')?;
        let mut string = String::with_capacity(self.0.len());
        loop {
            match self.next()? {
                b'"' => return Some(string),
                b'\\' => string.push(self.next_if(|byte| byte == b'"' || byte == b'\\')?.into()),
                byte @ b' '..=b'~' => string.push(byte.into()),
                _ => return None,
            }
        }
    }

    /// Section 4.2.7: base64, whose padding may be missing.
    fn byte_sequence(&mut self) -> Option<()> {
        self.next();
        let digits =
            self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/').len();
        let padding = self.take_while(|byte| byte == b'=').len();
        self.next_if(|byte| byte == b':')?;
        let most = match digits % 4 {
            0 => 0,
            1 => return None,
            rest => 4 - rest,
        };
        (padding <= most).then_some(())
    }

    /// Section 4.2.10: UTF-8 with percent signs, in lower case.
    fn display_string(&mut self) -> Option<()> {
        self.next();
        self.next_if(|byte| byte == b'"')?;
        let mut bytes = Vec::with_capacity(self.0.len());
        loop {
            match self.next()? {
                b'"' => return std::str::from_utf8(&bytes).is_ok().then_some(()),
                b'%' => bytes.push(self.hex_digit()? << 4 | self.hex_digit()?),
                byte @ b' '..=b'~' => bytes.push(byte),
                _ => return None,
            }
        }
    }

    fn hex_digit(&mut self) -> Option<u8> {
        match self.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn next_if(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        if wanted(*self.0.first()?) { self.next() } else { None }
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !wanted(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }
}

#[derive(PartialEq)]
enum Number {
    Integer,
    Decimal,
}

/// Returns whether a Token may continue with the byte (section 4.2.6).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// Parses the field with the crate `sfv`.
    fn oracle(field: &[u8]) -> Option<String> {
        let item = sfv::Parser::new(field).parse::<sfv::Item>().ok()?;
        Some(item.bare_item.as_string()?.as_str().to_owned())
    }

    #[test]
    fn every_type_of_parameter_is_read_to_its_end_and_ignored() {
        for parameters in [
            "",
            " ",
            ";a",
            ";  *_-.9*=?1;b=?0",
            ";a=-999999999999999;b=0",
            ";a=-999999999999.999;b=0.0",
            r#";a="\"\\;";b=c"#,
            ";a=*b/c:d!;b=Z~",
            ";a=:YQ==:;b=:YQ:;c=::;d=:YWI=:;e=:YWJj:",
            ";a=@-1659578233",
            r#";a=%"f%c3%bc%22";b"#,
        ] {
            let field = format!(r#"  "a\"b\\c"{parameters} "#);
            assert_eq!(parse_string(field.as_bytes()).as_deref(), Some(r#"a"b\c"#), "{field}");
            assert_eq!(oracle(field.as_bytes()).as_deref(), Some(r#"a"b\c"#), "{field}");
        }
    }

    #[test]
    fn what_the_rfc_refuses_is_refused() {
        for field in [
            "",
            " ",
            "a",
            "1",
            ":YQ==:",
            "?1",
            "@1",
            r#"%"a""#,
            r#"("a")"#,
            r#"""#,
            r#""\n""#,
            "\"\t\"",
            "\"\x7f\"",
            "\"\u{e9}\"",
            "\t\"a\"",
            "\"a\"\t",
            r#""a" ;b"#,
            r#""a", "b""#,
            r#""a";"#,
            r#""a";B"#,
            r#""a";1"#,
            r#""a";b="#,
            r#""a";b= 1"#,
            r#""a";b=1."#,
            r#""a";b=.1"#,
            r#""a";b=-"#,
            r#""a";b=1.0000"#,
            r#""a";b=1000000000000000"#,
            r#""a";b=1000000000000.0"#,
            r#""a";b=?2"#,
            r#""a";b=:Y:"#,
            r#""a";b=:Y===:"#,
            r#""a";b=:YQ===:"#,
            r#""a";b=:=:"#,
            r#""a";b=:Y=Q=:"#,
            r#""a";b=:YQ"#,
            r#""a";b=@1.0"#,
            r#""a";b=@"#,
            r#""a";b=%a"#,
            r#""a";b=%"%C3%BC""#,
            r#""a";b=%"%c3""#,
            r#""a";b=%"%c""#,
            r#""a";b=%"%4g""#,
            r#""a";b=(1)"#,
        ] {
            assert_eq!(parse_string(field.as_bytes()), None, "{field}");
            assert_eq!(oracle(field.as_bytes()), None, "{field}");
        }
    }

    /// A String Item with parameters of every type, most of them right.
    fn item() -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            "-?[0-9]{1,16}",
            "-?[0-9]{1,13}\\.[0-9]{0,4}",
            r#""([ -~]|\\\\|\\")*""#,
            "[*A-Za-z][!#$%&'*+.^_`|~:/A-Za-z0-9-]*",
            ":[A-Za-z0-9+/]{0,9}={0,3}:",
            "\\?[0-2]",
            "@-?[0-9]{1,16}",
            r#"%"([ -~]|%[0-9a-f]{2}|%c3%[89ab][0-9a-f]|%e2%82%ac)*""#,
        ];
        let parameter = ("; {0,2}[a-z*][a-z0-9_.*-]{0,3}", proptest::option::of(value))
            .prop_map(|(name, value)| name + &value.map_or(String::new(), |value| format!("={value}")));
        let parameters = proptest::collection::vec(parameter, 0..4).prop_map(|all| all.concat());
        (" {0,2}", r#""([ !#-\[\]-~]|\\\\|\\"){0,12}""#, parameters, " {0,2}").prop_map(
            |(before, string, parameters, after)| (before + &string + &parameters + &after).into_bytes(),
        )
    }

    /// Small changes to a valid field, so that the mistake is deep inside it.
    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let telling = select(b" \t\"\\;=,%@?:*-.()aZ09fgF~/\x7f\x00\xc3\xff".to_vec());
        let change = (0..4, any::<Index>(), any::<Index>(), telling);
        (item(), proptest::collection::vec(change, 1..4)).prop_map(|(mut field, changes)| {
            for (kind, here, there, byte) in changes {
                let at = here.index(field.len() + 1);
                match kind {
                    0 => field.insert(at, byte),
                    1 if at < field.len() => field[at] = byte,
                    2 if at < field.len() => drop(field.remove(at)),
                    _ => {
                        let other = there.index(field.len() + 1);
                        let again = field[at.min(other)..at.max(other)].to_vec();
                        field.splice(at..at, again);
                    }
                }
            }
            field
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_generated_item_is_what_sfv_says_it_is(field in item()) {
            prop_assert_eq!(parse_string(&field), oracle(&field), "{}", field.escape_ascii());
        }

        #[test]
        fn a_mutated_item_is_what_sfv_says_it_is(field in mutated()) {
            prop_assert_eq!(parse_string(&field), oracle(&field), "{}", field.escape_ascii());
        }

        #[test]
        fn any_bytes_are_what_sfv_says_they_are(field in proptest::collection::vec(any::<u8>(), 0..24)) {
            prop_assert_eq!(parse_string(&field), oracle(&field), "{}", field.escape_ascii());
        }
    }
}
