//! The `OpenAPI` document, in the hands of programs that read such documents.

use support::{demo_key, launch, python_test};

use super::listed::python_tests;

python_tests! { on_demo, "document_page", "Page":
    every_operation_is_listed_and_nothing_comes_from_elsewhere,
    an_operation_is_tried_with_a_key,
}

python_tests! { on_demo, "document_vendor", "Agreement":
    every_difference_from_the_vendors_document_has_its_reason,
}

fn on_demo(test: &str) {
    let server = launch().demo().start();
    let url = format!("http://{}", server.address);
    python_test(test).env("SERVER_URL", &url).env("VERIKO_API_KEY", &demo_key('1')).run();
}
