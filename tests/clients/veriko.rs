//! The vendor's client, `veriko` 0.6.0.

use std::fs;
use std::path::Path;

use support::{Launch, PythonTest, Server, demo_key, eventually, launch, python_test};

use super::listed::python_tests;

python_tests! { on_demo, "veriko_validations", "Validations":
    a_payment_that_arrived_is_valid_and_complete,
    each_verdict_is_read,
    a_payment_is_found_by_its_reference_alone,
    what_is_queued_is_waited_for,
    what_has_not_changed_is_not_read_again,
    the_cep_is_downloaded_in_both_formats,
    where_there_is_no_cep_the_client_says_so,
}

python_tests! { on_demo, "veriko_validations", "Lists":
    an_item_is_read_as_the_client_reads_it,
    each_filter_lets_through_what_it_says,
    a_filter_that_means_nothing_is_refused,
    pages_are_gone_through_to_the_end_and_once,
}

python_tests! { on_demo, "veriko_ocr", "Ocr":
    what_a_receipt_says_is_asked_about,
    a_receipt_that_is_not_to_be_kept_is_not,
    the_same_receipt_under_one_key_is_one_validation,
    a_receipt_in_the_queue_is_waited_for,
    what_is_no_receipt_is_refused,
    who_may_not_have_receipts_read_is_refused,
}

python_tests! { with_quick_retries, "veriko_retries", "Retries":
    a_cycle_resolves_when_the_payment_is_found,
    a_cycle_is_exhausted_and_begun_anew,
    a_cycle_is_cancelled_once,
    a_cycle_begins_changes_and_ends_by_its_own_policy,
    what_is_queued_is_retried_too,
    every_violation_of_a_policy_is_read,
    the_accounts_policy_is_saved_and_taken_by_what_brings_none,
}

python_tests! { on_demo, "veriko_account", "Account":
    the_profile_names_account_plan_and_permissions,
    the_summary_counts_each_validation_once,
    the_limits_are_the_plans,
    the_banks_are_read_once,
    how_banxico_does_is_told_in_the_callers_language,
}

python_tests! { on_demo, "veriko_errors", "Errors":
    who_is_nobody_is_not_let_in,
    either_prefix_of_a_key_is_taken,
    who_may_not_is_refused,
    what_is_anothers_is_not_there,
    all_that_is_wrong_with_a_payment_is_said,
    a_body_that_is_too_large_is_refused,
    a_key_that_is_none_is_refused,
    a_key_that_was_used_for_something_else_is_refused,
    a_key_in_use_is_a_conflict,
    banxico_refusing_for_volume_is_the_servers_error_and_costs_nothing,
}

python_tests! { with_small_limits, "veriko_errors", "Limits":
    a_spent_quota_says_when_there_is_a_new_one,
    too_many_requests_say_when_to_come_back,
    the_client_itself_comes_back_in_time,
}

python_tests! { on_demo, "veriko_idempotency", "Idempotency":
    a_key_that_is_used_again_is_answered_as_before,
    a_lost_answer_is_asked_for_again_and_nothing_happens_twice,
    a_503_in_between_is_tried_again_and_nothing_happens_twice,
    the_servers_own_503_is_tried_again_and_then_raised,
}

python_tests! { with_quick_webhooks, "veriko_webhooks", "Webhooks":
    an_endpoint_is_made_listed_changed_and_deleted,
    another_accounts_endpoint_is_not_there,
    what_no_endpoint_can_be_is_refused,
    a_verdict_is_delivered_and_verified,
    the_steps_of_a_cycle_are_delivered,
    a_delivery_that_is_not_taken_is_tried_again_under_the_same_id,
    deliveries_are_filtered_and_gone_through,
    a_test_says_what_the_receiver_answered,
    a_new_secret_signs_from_now_on,
    an_endpoint_that_keeps_failing_is_disabled_and_can_be_made_active_again,
    a_replay_tells_nobody_again,
}

const CRASH: &str = "veriko_idempotency.Crash.test_a_server_that_was_killed_in_between_is_asked_again";

/// The client takes a 409 for an answer, so who serves it lets a retry wait for the lease of who is dead.
const WAITING: &str = "[idempotency]\nlease_seconds = 1\nwait_seconds = 20\n";

#[test]
fn a_server_that_was_killed_in_between_is_asked_again_by_the_client_itself() {
    for point in ["after-claim", "before-commit", "after-commit"] {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let database = format!("sqlite://{}", folder.path().join("server.db").display());
        let start = |launch: Launch| launch.demo().database(&database).config(WAITING).start();
        let upstream = folder.path().join("upstream");

        let server = start(launch().env("FAILPOINT", point));
        write(&upstream, &url(&server));
        let test = test(&server, CRASH).env("TEST_UPSTREAM", &upstream.to_string_lossy()).start();
        eventually(point, || server.said(&format!("at {point}")).then_some(()));
        server.kill();
        let server = start(launch());
        write(&upstream, &url(&server));
        test.finish();
    }
}

/// At once: whoever reads it meanwhile reads all of it.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a folder of ours takes a file");
    fs::rename(new, path).expect("a file of ours is renamed");
}

/// By `demo-pro`.
fn on_demo(name: &str) {
    test(&launch().demo().start(), name).run();
}

/// Retries a second apart are allowed.
fn with_quick_retries(name: &str) {
    let launch = launch()
        .demo()
        .config("[veriko.caps]\nmin_interval_seconds = 1\n[veriko.plans.pro]\nrate_per_minute = 1000000\n");
    test(&launch.start(), name).run();
}

/// What is not taken is tried two times more, soon.
fn with_quick_webhooks(name: &str) {
    let launch = launch().demo().config(
        "[veriko.webhooks]\nretry_delays_seconds = [1, 1]\n[veriko.caps]\nmin_interval_seconds = 1\n",
    );
    test(&launch.start(), name).run();
}

fn with_small_limits(name: &str) {
    let launch = launch()
        .demo()
        .config("[veriko.plans.basic]\nmonthly_quota = 1\n[veriko.plans.free]\nrate_per_minute = 5\n");
    test(&launch.start(), name).run();
}

/// The client itself reads where the server is, and the key, from these variables.
fn test(server: &Server, name: &str) -> PythonTest {
    python_test(name).env("VERIKO_BASE_URL", &url(server)).env("VERIKO_API_KEY", &demo_key('1'))
}

fn url(server: &Server) -> String {
    format!("http://{}/v1", server.address)
}
