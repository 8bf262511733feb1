//! What is on the page.

/// What stands between two fences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    /// Where it begins.
    pub(super) line: usize,
    pub(super) language: &'a str,
    pub(super) text: &'a str,
}

/// Commands, and what they say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) line: usize,
    pub(super) commands: &'a str,
    /// Empty where nothing is shown: then they say nothing.
    pub(super) shown: &'a str,
}

/// Every block. One that is written in another way than the others would be looked at by nobody, so there is none.
pub(super) fn blocks(page: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut open, mut at) = (Vec::new(), None, 0);
    for (number, line) in (1..).zip(page.split_inclusive('\n')) {
        let after = at + line.len();
        if let Some(language) = line.strip_prefix("```") {
            open = match open {
                None => Some((number, language.trim_end(), after)),
                Some((line, language, from)) => {
                    blocks.push(Block { line, language, text: page[from..at].trim_end() });
                    None
                }
            };
        } else {
            let elsewhere = line.contains("```") || line.contains("~~~") || line.starts_with("    ");
            assert!(open.is_some() || !elsewhere, "line {number}: code that is no block: {line}");
        }
        at = after;
    }
    assert!(open.is_none(), "the last block has no end");
    blocks
}

/// The commands in their order, each with the output that stands right after it.
pub(super) fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut before = "";
    for Block { line, language, text } in blocks(page) {
        match language {
            "sh" => steps.push(Step { line, commands: text, shown: "" }),
            "text" => {
                assert_eq!(before, "sh", "line {line}: the output of nothing");
                steps.last_mut().expect("commands were before").shown = text;
            }
            // Other tests compare these with what they are taken from.
            "rust" | "toml" => {}
            _ => panic!("line {line}: no test looks at blocks of {language:?}"),
        }
        before = language;
    }
    steps
}

/// Whether this is what the page shows, placeholders apart.
pub(super) fn shows(shown: &str, said: &str) -> bool {
    let (mut shown, mut said) = (shown.lines(), said.lines());
    loop {
        match (shown.next(), said.next()) {
            (Some(shown), Some(said)) if fits(shown, said) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// A placeholder, and of what characters it stands for at least one.
type Placeholder = (&'static str, fn(char) -> bool);

const PLACEHOLDERS: [Placeholder; 2] = [
    ("<number>", |c| c.is_ascii_digit()),
    // Points in time, and how long something took.
    ("<time>", |c| c.is_ascii_alphanumeric() || " ,:.+-µ".contains(c)),
];

fn fits(shown: &str, said: &str) -> bool {
    let first = PLACEHOLDERS
        .iter()
        .filter_map(|holder| Some((shown.find(holder.0)?, holder)))
        .min_by_key(|found| found.0);
    let Some((at, (name, stands_for))) = first else { return shown == said };
    let Some(said) = said.strip_prefix(&shown[..at]) else { return false };
    let shown = &shown[at + name.len()..];
    let ends = said.char_indices().take_while(|(_, c)| stands_for(*c)).map(|(at, c)| at + c.len_utf8());
    ends.into_iter().any(|end| fits(shown, &said[end..]))
}

#[test]
fn a_placeholder_stands_for_something_of_its_kind() {
    let took = "after <number> ms, at <time>.";
    assert!(shows(took, "after 17 ms, at Sun, 22 Nov 2026 13:11:22 GMT."));
    assert!(!shows(took, "after ms, at Sun."));
    assert!(!shows(took, "after x ms, at Sun."));
    assert!(!shows(took, "after 17 ms, at Sun, as a"));
    assert!(!shows("a\nb", "a") && !shows("a", "a\nb") && shows("", ""));
}

#[test]
#[should_panic(expected = "no test looks at blocks of \"python\"")]
fn a_block_that_nothing_would_run_is_noticed() {
    steps("```python\nprint()\n```\n");
}

#[test]
#[should_panic(expected = "line 4: the output of nothing")]
fn an_output_without_commands_is_noticed() {
    steps("```toml\na = 1\n```\n```text\na\n```\n");
}

#[test]
#[should_panic(expected = "line 2: code that is no block")]
fn a_fence_within_a_list_is_noticed() {
    blocks("- so:\n  ```sh\n  rm\n  ```\n");
}
