//! A small set of header names.

use http::HeaderName;

/// A small set of header names. Most names that it does not contain are ruled out by their length.
#[derive(Clone, Default)]
pub(crate) struct HeaderSet {
    names: Vec<HeaderName>,
    /// One bit for the length of each name. The last bit stands for all longer names.
    lengths: u64,
}

impl HeaderSet {
    pub(crate) fn insert(&mut self, name: HeaderName) {
        self.lengths |= length_bit(&name);
        self.names.push(name);
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.names.retain(|other| other != name);
    }

    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.names
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.lengths & length_bit(name) != 0 && self.names.contains(name)
    }
}

impl FromIterator<HeaderName> for HeaderSet {
    fn from_iter<I: IntoIterator<Item = HeaderName>>(names: I) -> Self {
        let mut set = Self::default();
        names.into_iter().for_each(|name| set.insert(name));
        set
    }
}

fn length_bit(name: &HeaderName) -> u64 {
    1 << name.as_str().len().min(63)
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_set_contains_what_was_put_into_it_and_not_taken_out() {
        let long = |end: char| HeaderName::try_from(format!("{}{end}", "x".repeat(70))).unwrap();
        let mut set: HeaderSet = [header::DATE, long('a'), header::SET_COOKIE].into_iter().collect();
        for (name, contains) in [
            (header::DATE, true),
            (header::ETAG, false),
            (header::SET_COOKIE, true),
            (header::CONTENT_TYPE, false),
            (long('a'), true),
            (long('b'), false),
        ] {
            assert_eq!(set.contains(&name), contains, "{name}");
        }
        set.remove(&header::DATE);
        assert!(!set.contains(&header::DATE) && set.contains(&header::SET_COOKIE));
    }
}
