//! The query of a URL.

/// Returns the last value of each parameter that `is_known` accepts, in the order in which the names
/// first appear. Other parameters are ignored.
pub fn last_values(query: &str, is_known: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        // Without this check, a query of many names would cost the square of its length.
        if !is_known(&name) {
            continue;
        }
        match parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, last)) => *last = value.into_owned(),
            None => parameters.push((name.into_owned(), value.into_owned())),
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_each_known_parameter_counts() {
        let values = last_values("b=1&a=x+y&c=3&b=%32", |name| name != "c");
        assert_eq!(values, [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "x y".to_owned())]);
        assert_eq!(last_values("", |_| true), []);
    }
}
