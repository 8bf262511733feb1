//! The vendor's client, `veriko` 0.6.0.

use support::{Launch, Server, demo_key, launch, python_test};

use super::listed::python_tests;

python_tests! { on_demo, "veriko_validations", "Validate":
    a_payment_that_arrived_is_valid,
    each_verdict_is_read,
}

/// With the demo's accounts, by `demo-pro`.
fn on_demo(test: &str) {
    run(&demo().start(), test);
}

fn demo() -> Launch {
    launch().demo()
}

/// The client itself reads where the server is, and the key, from these variables.
fn run(server: &Server, test: &str) {
    let url = format!("http://{}/v1", server.address);
    python_test(test).env("VERIKO_BASE_URL", &url).env("VERIKO_API_KEY", &demo_key('1')).run();
}
