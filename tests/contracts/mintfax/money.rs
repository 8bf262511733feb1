//! What faxes cost.

use std::thread;

use support::eventually;

use super::{BUSY, DELIVERED, Form, LIVE, OTHER, TEST, balance, code, demo_with, ended, sent};

#[test]
fn money_is_held_charged_and_released() {
    let server = demo_with("price_cents = 7\nopening_balance_cents = 100");
    assert_eq!(balance(&server, TEST), (100, 0));
    for (to, left) in
        [(DELIVERED, 93), (BUSY, 93), ("+15005550007", 72), ("+15005550008", 72), ("+15005550004", 65)]
    {
        let id = sent(&server, &Form::to(to));
        let (available, held) = balance(&server, TEST);
        assert!(available + held == left || held > 0 || available == left, "{to}: {available}, {held}");
        ended(&server, &id);
        assert_eq!(balance(&server, TEST), (left, 0), "{to}");
    }
    assert_eq!((balance(&server, LIVE), balance(&server, OTHER)), ((100, 0), (100, 0)));
}

#[test]
fn what_a_fax_will_cost_is_held_until_it_has_ended() {
    let server = demo_with(
        "price_cents = 7\nopening_balance_cents = 20\nretry_base_seconds = 3600\nretry_max_seconds = 3600",
    );
    for held in [7, 14] {
        sent(&server, &Form::to(BUSY));
        assert_eq!(balance(&server, TEST), (20 - held, held));
    }
    let refused = Form::to(BUSY).post(&server, TEST).key("poor").send();
    assert_eq!((refused.status, code(&refused).as_str()), (402, "insufficient_balance"));
    assert_eq!(balance(&server, TEST), (6, 14));
    assert_eq!(server.files().len(), 2, "of what is refused nothing is kept");
}

/// +15005550007 has three pages.
#[test]
fn what_is_held_is_what_all_pages_cost() {
    let server = demo_with("price_cents = 7\nopening_balance_cents = 20");
    for (to, status) in [("+15005550007", 402), (DELIVERED, 201)] {
        assert_eq!(Form::to(to).post(&server, TEST).send().status, status, "{to}");
    }
}

/// However they meet, as many are accepted as can be paid for, and every cent is where it belongs.
#[test]
fn fifty_faxes_at_once_are_paid_for_to_the_cent() {
    let server = demo_with("price_cents = 7\nopening_balance_cents = 215");
    let forms = [DELIVERED, BUSY].map(|to| Form::to(to).field("retries", "1"));
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|number| forms[number % 2].post(&server, TEST))
            .map(|request| scope.spawn(move || request.send()))
            .collect();
        clients.into_iter().map(|client| client.join().expect("it is answered")).collect()
    });
    let accepted = answers.iter().filter(|answer| answer.status == 201).count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 201).collect();
    assert!(refused.iter().all(|answer| answer.status == 402), "{refused:?}");
    // What failed meanwhile has given its money back.
    assert!(accepted >= 30, "{accepted}");
    eventually("all have ended", || (balance(&server, TEST).1 == 0).then_some(()));
    let delivered = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .map(|answer| answer.json()["id"].as_str().map(str::to_owned).expect("an id"))
        .filter(|id| ended(&server, id)["status"] == "delivered")
        .count();
    assert_eq!(balance(&server, TEST), (215 - 7 * i64::try_from(delivered).expect("few"), 0));
}
