//! What things are known by: what they are, and a number.

use uuid::Uuid;

/// A new one. Version 7, so that those of one kind are in the order of their making.
pub(super) fn new(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}

/// Whether this can be one of ours. What cannot is not looked up.
pub(super) fn is_one(prefix: &str, text: &str) -> bool {
    let number = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    number.is_some_and(|number| {
        number.len() == 32
            && number.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_known_and_nothing_else_is() {
        let id = new("ver");
        assert!(is_one("ver", &id) && !is_one("sess", &id) && new("ver") > id, "{id}");
        for text in ["", "ver_", "ver", "ver_a1b2", &id.to_uppercase(), &format!("{id}0"), &format!("x{id}")]
        {
            assert!(!is_one("ver", text), "{text}");
        }
    }
}
