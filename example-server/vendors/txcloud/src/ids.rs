//! Object ids: a type prefix and a UUID.

use uuid::Uuid;

/// Returns a new id. It is a UUID of version 7, so ids of one type sort by creation.
pub(super) fn new(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}

/// Returns whether the text has the form of an id of this type. Other texts are not looked up.
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
    fn only_well_formed_ids_are_recognised() {
        let id = new("ver");
        assert!(is_one("ver", &id) && !is_one("sess", &id) && new("ver") > id, "{id}");
        for text in ["", "ver_", "ver", "ver_a1b2", &id.to_uppercase(), &format!("{id}0"), &format!("x{id}")]
        {
            assert!(!is_one("ver", text), "{text}");
        }
    }
}
