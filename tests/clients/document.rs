//! The `OpenAPI` documents, in the hands of programs that read such documents.

use support::{Server, demo_key, launch, python_test};

use super::listed::python_tests;

python_tests! { on_demo, "document_page", "Page":
    every_operation_is_listed_and_nothing_comes_from_elsewhere,
    each_api_is_chosen_and_tried_with_a_key_of_it,
}

python_tests! { on_demo, "document_vendor", "Agreement":
    every_difference_from_the_vendors_document_has_its_reason,
}

python_tests! { without_limits, "document_fuzz", "Fuzz":
    whatever_is_sent_to_veriko_is_answered_as_described,
    whatever_is_sent_to_txcloud_is_answered_as_described,
    whatever_is_sent_to_mintfax_is_answered_as_described,
}

fn on_demo(test: &str) {
    run(&launch().demo().start(), test);
}

/// Else most answers would be 429.
fn without_limits(test: &str) {
    let limits = "[veriko.plans.pro]\nrate_per_minute = 1000000\nmonthly_quota = 1000000\n\
                  [txcloud]\nrate_per_minute = 1000000\n\
                  [mintfax]\nrate_per_minute = 1000000\nopening_balance_cents = 100000000";
    run(&launch().demo().config(limits).start(), test);
}

fn run(server: &Server, test: &str) {
    let url = format!("http://{}", server.address);
    python_test(test).env("SERVER_URL", &url).env("VERIKO_API_KEY", &demo_key('1')).run();
}
