//! Killed between what happened and its being told of.

use serde_json::json;
use support::{Launch, Reaction, Receiver, Server, demo_key, eventually};

use crate::clients::ask_until_answered;
use crate::database::Database;
use crate::ledger::{NEVER, id_of, validate};
use crate::points::{SOON, at};

const KEY: &str = "the-key";

/// | killed | the validation is | and the next server |
/// |---|---|---|
/// | with everything written, before the commit | not there | tells of the one that the retry makes |
/// | after the commit, before anything is sent or answered | there | tells of it |
/// | after the receiver took it, before that is recorded | there | tells of it again, under the same id |
fn kill_before_it_is_told(database: fn() -> Database) {
    for (point, told) in [("before-commit", 1), ("after-commit", 1), ("webhook-sent", 2)] {
        let database = &database();
        let launch = || sealed(database.launch_with("veriko.webhooks.retry_delays_seconds = [0.01]"));
        // What is sent before the kill is not taken, but for where that is the point.
        let receiver = Receiver::reacting(Reaction::Close);
        let server = launch().start();
        register(&server, &receiver);
        server.stop();
        if point == "webhook-sent" {
            receiver.react(Reaction::Answer(200));
        }

        let server = launch().env("FAILPOINT", point).start();
        let unanswered = validate(&server, KEY, "MX1", NEVER).open();
        at(point, &server);
        server.kill();
        drop(unanswered);
        let before = receiver.received().len();
        receiver.react(Reaction::Answer(200));

        let server = launch().start();
        let answer = ask_until_answered(point, SOON, || Some(validate(&server, KEY, "MX1", NEVER)));
        let delivery = eventually("the end of the delivery", || {
            let listed = server.get("/v1/webhooks/deliveries").bearer(&demo_key('1')).send().json();
            let all = listed["data"].as_array().expect("a list").clone();
            assert_eq!(all.len(), 1, "{point}: {listed}");
            (all[0]["attributes"]["status"] == "success").then(|| all[0].clone())
        });
        let heard = receiver.received();
        assert!(heard.len() > before && heard.len() >= told, "{point}: {heard:?}");
        for heard in &heard {
            assert_eq!(heard.header("x-veriko-delivery-id"), delivery["id"], "{point}");
            assert_eq!(heard.body, receiver.received()[0].body, "{point}");
            assert_eq!(heard.json()["data"]["id"], id_of(&answer), "{point}");
        }
    }
}

/// Servers that follow each other need the same key, wherever they keep their data.
fn sealed(launch: Launch) -> Launch {
    launch.env("SEALING_KEY", &"5".repeat(64))
}

fn register(server: &Server, receiver: &Receiver) {
    let asked = json!({"url": receiver.url(), "events": ["validation.completed"]});
    let created = server.post("/v1/webhooks").bearer(&demo_key('1')).json(asked).send();
    assert_eq!(created.status, 201, "{created:?}");
}

#[test]
fn whatever_was_committed_is_told_of_on_sqlite() {
    kill_before_it_is_told(Database::sqlite);
}

#[test]
fn whatever_was_committed_is_told_of_on_postgres() {
    kill_before_it_is_told(Database::postgres);
}
