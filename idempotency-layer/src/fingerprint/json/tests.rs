use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;

#[track_caller]
fn of(json: &str) -> Vec<u8> {
    canonical(json.as_bytes()).unwrap_or_else(|| panic!("has no canonical form: {json}"))
}

#[test]
fn values_that_a_handler_may_tell_apart_differ() {
    let values = [
        "10000000000000001 10000000000000000 1 1.0 1e0 1E0 10 0 -0 \"1\" true false null \"true\" \"t\" \"\" \"null\" \"01\"",
        r#"[] {} "[]" "{}" [1] [1,1] [11] [101] [[1],1] [1,[1]] [[1,1]] [[]] [{}] [""] ["1"] ["1,1"] ["1","1"] ["1\"1"] [1,2] [2,1]"#,
        r#"{"":1} {"1":""} {"a":1} {"a":"1"} {"a":[1]} {"a":{}} {"a":{"b":1}} {"a":{"b":{}}} {"a":1,"b":2} {"a":2,"b":1}"#,
        r#"{"ab":"c"} {"a":"bc"} [{"a":1},2] [{"a":1,"b":2}] [{"a":1},{"b":2}] {"a":[{"b":1}]} {"a":"b","c":"d"} "A" "a""#,
        r#""\ud800" "\udbff" "\udc00" "\udfff" "\udc00\ud800" "\ufffd" "\ud83d" "😀" "\ud800A" "\ud840" "\ud800\ud800" "\ud7ff" "\ue000""#,
    ];
    let mut seen = BTreeMap::new();
    for json in values.iter().flat_map(|line| line.split(' ')) {
        let other = seen.insert(of(json), json);
        assert_eq!(other, None, "and {json}");
    }
}

#[test]
fn spellings_of_one_value_are_the_same() {
    assert_eq!(
        of(r#" { "b" : [ 1 , { } ] ,"a":{"d":2,"c":"x"}} "#),
        of(r#"{"a":{"c":"x","d":2},"b":[1,{}]}"#)
    );
    assert_eq!(
        of(r#""\u0041\/\b\f\n\r\t\"\\é""#),
        of(r#""A\u002F\u0008\u000c\u000A\u000d\u0009\u0022\u005c\u00e9""#)
    );
    assert_eq!(of(r#""\ud83d\uDE00""#), of(r#""😀""#));
    assert_eq!(of(r#"{"\u0061":1,"B":2}"#), of(r#"{"B":2,"a":1}"#));
}

#[test]
fn a_name_used_twice_leaves_no_canonical_form() {
    for json in [r#"{"a":1,"a":1}"#, r#"[{"x":{"a":1,"b":2,"\u0061":3}}]"#, r#"{"\ud800":1,"\uD800":2}"#] {
        assert_eq!(canonical(json.as_bytes()), None, "{json}");
    }
    of(r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#);
}

#[test]
fn nesting_is_bounded_and_cannot_overflow_the_stack() {
    let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
    of(&nested(DEPTH));
    assert_eq!(canonical(nested(DEPTH + 1).as_bytes()), None);
    assert_eq!(canonical("[".repeat(1_000_000).as_bytes()), None);
    assert_eq!(canonical(r#"{"":"#.repeat(1_000_000).as_bytes()), None);
}

#[test]
fn what_is_not_json_in_utf8_has_no_canonical_form() {
    let texts = r#"01 1. .5 +1 - 1e 1e+ 0x1 NaN tru nulll 'a' "a "\x" "\a" "\u12G4" "\u+123" [1,] [,] [1 [1}} [1]] {,} {"a":1,} {"a"} {a:1}"#;
    for text in texts.split(' ').chain(["", " ", "1 2", "\"\n\"", "\u{feff}1", "\"\\", "\"\\u12"]) {
        assert_eq!(canonical(text.as_bytes()), None, "{text}");
    }
    assert_eq!(canonical(b"\"\xff\""), None);
    assert_eq!(canonical(b"\"\xed\xa0\x80\""), None, "would be the form of a lone surrogate");
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Plain(String),
    Text(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Value {
    fn leaves(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Array(items) => items.iter_mut().flat_map(Self::leaves).collect(),
            Self::Object(members) => members.values_mut().flat_map(Self::leaves).collect(),
            leaf => vec![leaf],
        }
    }

    /// One of its serialisations: members in any order, white space anywhere, any character
    /// escaped.
    fn write(&self, rng: &mut impl Rng) -> String {
        let space = [" ", "\t", "\r\n", "", "", ""][rng.random_range(0..6)];
        let mut items = Vec::new();
        match self {
            Self::Plain(text) => return format!("{space}{text}{space}"),
            Self::Text(text) => return quote(text, rng) + space,
            Self::Array(values) => items.extend(values.iter().map(|value| value.write(rng))),
            Self::Object(members) => {
                for (name, value) in members {
                    let member = format!("{space}{}{space}:{}", quote(name, rng), value.write(rng));
                    items.insert(rng.random_range(0..=items.len()), member);
                }
            }
        }
        let items = items.join(",");
        if matches!(self, Self::Array(_)) {
            format!("{space}[{space}{items}]")
        } else {
            format!("{{{space}{items}}}")
        }
    }
}

fn quote(text: &str, rng: &mut impl Rng) -> String {
    let escape = |unit: &mut u16| format!("\\u{unit:04x}");
    let quoted = text.chars().map(|character| match character {
        ' '..='~' if !matches!(character, '"' | '\\') && rng.random_ratio(3, 4) => character.into(),
        '\u{7f}'.. if rng.random_ratio(3, 4) => character.into(),
        _ => character.encode_utf16(&mut [0; 2]).iter_mut().map(escape).collect::<String>(),
    });
    format!("\"{}\"", quoted.collect::<String>())
}

const ANY_TEXT: &str = "(?s)[a-c0]{0,2}|.{0,4}";

fn leaf(text: &'static str) -> impl Strategy<Value = Value> {
    let plain = "true|false|null|-?(0|[1-9][0-9]{0,3})([.][0-9]{1,2})?([eE][+-]?[0-9]{1,2})?";
    prop_oneof![plain.prop_map(Value::Plain), text.prop_map(Value::Text)]
}

fn tree(text: &'static str) -> impl Strategy<Value = Value> {
    leaf(text).prop_recursive(5, 48, 6, move |inner| {
        let object = btree_map(text, inner.clone(), 0..6).prop_map(Value::Object);
        prop_oneof![vec(inner, 0..6).prop_map(Value::Array), object]
    })
}

/// A value, and two of its serialisations.
fn written(text: &'static str) -> impl Strategy<Value = (Value, String, String)> {
    tree(text).prop_perturb(|value, mut rng| {
        let (one, other) = (value.write(&mut rng), value.write(&mut rng));
        (value, one, other)
    })
}

proptest! {
    #[test]
    fn every_serialisation_of_a_value_is_the_same((_, one, other) in written(ANY_TEXT)) {
        prop_assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn one_changed_leaf_makes_another((value, one, _) in written(ANY_TEXT), at: Index, new in leaf(ANY_TEXT)) {
        let mut changed = value.clone();
        let mut leaves = changed.leaves();
        if !leaves.is_empty() {
            let at = at.index(leaves.len());
            *leaves[at] = new;
        }
        let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        prop_assert_eq!(of(&one) == of(&changed.write(&mut rng)), changed == value);
    }

    /// No damage of this kind makes two names equal, a number too large for a double, or half of a
    /// surrogate pair.
    #[test]
    fn damaged_json_is_accepted_where_serde_json_accepts_it(
        (_, mut json, _) in written("[a-z]{0,3}"), at: Index, put in "[\\[\\]{}:,\"\\\\. \n-]", insert: bool,
    ) {
        let at = at.index(json.len());
        json.replace_range(at..at + usize::from(!insert), &put);
        let theirs = serde_json::from_str::<serde_json::Value>(&json).is_ok();
        prop_assert_eq!(canonical(json.as_bytes()).is_some(), theirs, "{}", json);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..64), text in "[\\[\\]{}:,\"\\\\u0-9dDe.a -]{0,64}") {
        canonical(&bytes);
        canonical(text.as_bytes());
    }
}
