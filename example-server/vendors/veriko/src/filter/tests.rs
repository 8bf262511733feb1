use super::*;

fn parse(query: &str) -> Result<Filter, Vec<&'static str>> {
    Filter::parse(query).map_err(|failure| {
        assert_eq!(failure.status.as_u16(), 422);
        failure.errors.iter().map(|error| error.code).collect()
    })
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn no_query_is_the_first_ten_of_all() {
    let filter = parse("").unwrap();
    assert_eq!(filter, Filter::default());
    assert_eq!((filter.page.offset(), filter.page.limit()), (0, 10));
}

#[test]
fn every_filter_is_read() {
    let query = "page=3&per_page=25&status=valid,not_found&type=direct&from=2025-01-01&to=2025-03-31\
                 &search=Scotia%25bank&client_ref=orden+4812&amount_min=1000.5&amount_max=50000&retry_state=pending";
    let expected = Filter {
        page: Page { number: 3, size: 25 },
        statuses: vec![Status::Valid, Status::NotFound],
        kind: Some(Kind::Direct),
        created_from: Some(time("2025-01-01T00:00:00Z")),
        created_before: Some(time("2025-04-01T00:00:00Z")),
        search: Some(Search::parse("Scotia%bank").unwrap()),
        client_ref: ClientRef::parse("orden 4812"),
        min_cents: Some(100_050),
        max_cents: Some(5_000_000),
        retry_state: Some(CycleState::Pending),
    };
    assert_eq!(parse(query), Ok(expected));
    let dates = parse("date_from=2025-01-01&date_to=2025-01-01").unwrap();
    assert_eq!(dates.created_from, Some(time("2025-01-01T00:00:00Z")));
    assert_eq!(dates.created_before, Some(time("2025-01-02T00:00:00Z")), "the last day is in it");
}

#[test]
fn a_page_out_of_range_is_brought_into_it() {
    for (query, number, size) in [
        ("page=0", 1, 10),
        ("page=-7", 1, 10),
        ("page=4294967296", u32::MAX, 10),
        ("page=99999999999999999999999", u32::MAX, 10),
        ("page=-99999999999999999999999", 1, 10),
        ("per_page=0", 1, 1),
        ("per_page=-1", 1, 1),
        ("per_page=50", 1, 50),
        ("per_page=51", 1, 50),
        ("per_page=1000000", 1, 50),
    ] {
        assert_eq!(parse(query).unwrap().page, Page { number, size }, "{query}");
    }
    let last = parse("page=99999999999&per_page=50").unwrap().page;
    assert_eq!(last.offset(), u64::from(u32::MAX - 1) * 50);
}

#[test]
fn what_cannot_be_applied_is_refused_and_not_passed_over() {
    for query in [
        "page=abc",
        "page=1.5",
        "page=-",
        "per_page=ten",
        "status=bogus",
        "status=valid,bogus",
        "status=VALID",
        "status=,",
        "type=manual",
        "from=2025-02-30",
        "from=2025-1-1",
        "from=20250101",
        "from=yesterday",
        "date_from=2025-13-01",
        "to=01/02/2025",
        "to=9999-12-31",
        "date_to=x",
        "client_ref=",
        "client_ref=a%0Ab",
        "client_ref=%F0%9F%8E%89",
        "amount_min=abc",
        "amount_min=1,000.50",
        "amount_min=NaN",
        "amount_max=$500",
        "amount_max=1e99",
        "retry_state=none",
        "retry_state=Pending",
        "from[]=2025-01-01",
        "status[]=valid",
        "client_ref%5B%5D=a",
        "search=a%00",
    ] {
        assert_eq!(parse(query), Err(vec!["invalid_filter"]), "{query}");
    }
    assert_eq!(parse(&format!("search={}", "á".repeat(101))), Err(vec!["invalid_filter"]));
    assert_eq!(parse(&format!("client_ref={}", "a".repeat(65))), Err(vec!["invalid_filter"]));
    assert!(parse(&format!("search={}", "á".repeat(100))).is_ok());
}

#[test]
fn every_bad_filter_is_named_once_in_both_languages() {
    let failure = Filter::parse("type=a&page=1&amount_min=x&type=b&retry_state=y").unwrap_err();
    let details: Vec<_> =
        failure.errors.iter().map(|error| (&*error.detail.english, &*error.detail.spanish)).collect();
    assert_eq!(
        details,
        [
            ("type must be direct or ocr.", "type debe ser direct u ocr."),
            ("amount_min must be a number.", "amount_min debe ser un número."),
            (
                "retry_state must be one of pending, resolved, exhausted, cancelled.",
                "retry_state debe ser uno de pending, resolved, exhausted, cancelled."
            ),
        ]
    );
    assert!(failure.errors.iter().all(|error| error.pointer.is_none()));
}

#[test]
fn the_words_for_a_wrong_text_name_every_right_one() {
    for status in Status::ALL {
        assert!(STATUSES.english.contains(status.as_str()) && STATUSES.spanish.contains(status.as_str()));
    }
    for state in CycleState::ALL {
        assert!(RETRY_STATE.english.contains(state.as_str()) && RETRY_STATE.spanish.contains(state.as_str()));
    }
}

#[test]
fn every_name_is_one_that_is_read() {
    for name in NAMES {
        // Wrong for each of them: too long for a text, and nothing else.
        let query = format!("{name}={}", "x".repeat(101));
        assert_eq!(parse(&query), Err(vec!["invalid_filter"]), "{name}");
    }
}

#[test]
fn empty_unknown_and_repeated_parameters() {
    assert_eq!(parse("status=&type=&from=&search=+&amount_min=&page="), Ok(Filter::default()));
    assert_eq!(parse("bogus=1&bogus[]=2&=&&x"), Ok(Filter::default()));
    assert_eq!(parse("type=manual&type=ocr").unwrap().kind, Some(Kind::Ocr), "the last one counts");
    assert_eq!(parse("status=valid,,valid, error").unwrap().statuses, [Status::Valid, Status::Error]);
}

#[test]
fn a_bound_between_two_cents_leaves_out_what_it_leaves_out() {
    for (value, min, max) in [
        ("100.005", 10_001, 10_000),
        ("0", 0, 0),
        ("-5", -500, -500),
        ("-0.001", 0, -1),
        ("1e3", 100_000, 100_000),
        ("1e27", i64::MAX, i64::MAX),
        ("-1e27", i64::MIN, i64::MIN),
    ] {
        let filter = parse(&format!("amount_min={value}&amount_max={value}")).unwrap();
        assert_eq!((filter.min_cents, filter.max_cents), (Some(min), Some(max)), "{value}");
    }
}

#[test]
fn a_search_finds_its_own_text_and_accounts_by_their_digits() {
    for (value, text, digits, pattern) in [
        ("ScotiaBank", "scotiabank", None, "%scotiabank%"),
        ("Ñandú", "ñandú", None, "%ñandú%"),
        (r"50%25_\", r"50%_\", None, r"%50\%\_\\%"),
        ("0121-8000 4412", "0121-8000 4412", Some("012180004412"), "%0121-8000 4412%"),
        ("--", "--", None, "%--%"),
    ] {
        let search = parse(&format!("search={value}")).unwrap().search.unwrap();
        assert_eq!((search.text(), search.digits()), (text, digits), "{value}");
        assert_eq!(search.like_pattern(), pattern, "{value}");
    }
}

#[test]
fn pagination_counts_pages_and_none_for_nothing() {
    for (query, total, expected) in [
        ("", 0, r#"{"page":1,"per_page":10,"total":0,"total_pages":0}"#),
        ("per_page=2", 3, r#"{"page":1,"per_page":2,"total":3,"total_pages":2}"#),
        ("per_page=2&page=2", 4, r#"{"page":2,"per_page":2,"total":4,"total_pages":2}"#),
        ("page=9", 47, r#"{"page":9,"per_page":10,"total":47,"total_pages":5}"#),
    ] {
        let pagination = parse(query).unwrap().page.pagination(total);
        assert_eq!(serde_json::to_string(&pagination).unwrap(), expected);
    }
}
