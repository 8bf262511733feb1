//! Random interleavings of clients, handlers and time, compared with a small model: each key has one stored effect within
//! its time to live, and all its replays are the same.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idempotency_layer::{Contract, IdempotencyService, OnDisconnect, RejectionKind};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt};

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{Answer, Handler, Req, builder, now, post, response, settle, try_handler, with};

const LEASE: Duration = Duration::from_secs(8);
const TTL: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
enum Step {
    /// A client sends a request.
    Send { tenant: u8, key: u8, body: u8 },
    /// A client leaves.
    Leave(Index),
    /// A handler ends.
    End(Index, Ending),
    /// Time passes, and leases are renewed.
    Pass(u32),
    /// Time passes, and leases are not renewed.
    Stall(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Created,
    NotFound,
    Overloaded,
    Panic,
    Error,
}

fn step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![
        3 => Just(Ending::Created),
        1 => Just(Ending::NotFound),
        1 => Just(Ending::Overloaded),
        1 => Just(Ending::Panic),
        1 => Just(Ending::Error),
    ];
    prop_oneof![
        8 => (0..2_u8, 0..2_u8, 0..2_u8).prop_map(|(tenant, key, body)| Step::Send { tenant, key, body }),
        2 => any::<Index>().prop_map(Step::Leave),
        5 => (any::<Index>(), ending).prop_map(|(which, ending)| Step::End(which, ending)),
        2 => (1..40_000_u32).prop_map(Step::Pass),
        1 => (1..12_000_u32).prop_map(Step::Stall),
    ]
}

type Name = (u8, u8);

/// The state of a key in the model.
#[derive(Clone, Debug)]
enum Known {
    Running {
        run: usize,
        body: u8,
        since: Instant,
        /// Whether renewals failed meanwhile, so that another run may take over.
        lapsed: bool,
    },
    Done {
        body: u8,
        since: Instant,
        answer: (u16, String),
    },
}

/// A handler that was begun.
struct Begun {
    name: Name,
    body: u8,
    end: Option<oneshot::Sender<Ending>>,
}

struct Client {
    name: Name,
    body: u8,
    run: Option<usize>,
    task: JoinHandle<Result<Answer, io::Error>>,
}

struct World {
    store: Scripted,
    service: IdempotencyService<Handler, Scripted>,
    cancels: bool,
    begun: Arc<Mutex<Vec<Begun>>>,
    clients: Vec<Client>,
    known: HashMap<Name, Known>,
}

impl World {
    fn new(cancels: bool) -> Self {
        let (store, begun) = (Scripted::new(), Arc::new(Mutex::new(Vec::<Begun>::new())));
        let list = begun.clone();
        let inner = try_handler(move |request: Req| {
            let number = |name| request.headers()[name].to_str().unwrap().parse::<u8>().unwrap();
            let (end, ending) = oneshot::channel();
            let mut list = list.lock().unwrap();
            let run = list.len();
            list.push(Begun {
                name: (number("x-tenant"), number("idempotency-key")),
                body: number("x-body"),
                end: Some(end),
            });
            async move {
                match ending.await.unwrap() {
                    Ending::Created => Ok(response(201, format!("run {run}"))),
                    Ending::NotFound => Ok(response(404, format!("run {run}"))),
                    Ending::Overloaded => Ok(response(503, format!("run {run}"))),
                    Ending::Error => Err(io::Error::other(format!("run {run}"))),
                    Ending::Panic => panic!("run {run}"),
                }
            }
        });
        let policy = if cancels { OnDisconnect::Cancel } else { OnDisconnect::Finish };
        let layer =
            builder(store.clone()).contract(Contract::veriko().ttl(TTL)).lease(LEASE).on_disconnect(policy);
        let service = layer.build().layer(inner);
        Self { store, service, cancels, begun, clients: Vec::new(), known: HashMap::new() }
    }

    /// Returns the state of a key now.
    fn known(&self, name: Name) -> Option<&Known> {
        self.known.get(&name).filter(|known| match known {
            Known::Done { since, .. } => now() < *since + TTL,
            Known::Running { since, lapsed, .. } => !lapsed || now() < *since + TTL,
        })
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { tenant, key, body } => self.send((tenant, key), body).await,
            Step::Leave(which) if !self.clients.is_empty() => {
                let client = self.clients.swap_remove(which.index(self.clients.len()));
                client.task.abort();
                settle().await;
                if self.cancels
                    && let Some(run) = client.run
                {
                    self.begun.lock().unwrap()[run].end = None;
                    self.free(client.name, run);
                }
            }
            Step::End(which, ending) => {
                let running: Vec<usize> = {
                    let begun = self.begun.lock().unwrap();
                    (0..begun.len()).filter(|run| begun[*run].end.is_some()).collect()
                };
                if !running.is_empty() {
                    self.end(running[which.index(running.len())], ending).await;
                }
            }
            Step::Leave(_) => {}
            Step::Pass(millis) => pass(millis).await,
            Step::Stall(millis) => {
                for known in self.known.values_mut() {
                    if let Known::Running { lapsed, .. } = known {
                        *lapsed = true;
                    }
                }
                self.store.always(Verb::Extend, DOWN);
                pass(millis).await;
                self.store.always(Verb::Extend, Act::Pass);
            }
        }
    }

    async fn send(&mut self, name: Name, body: u8) {
        let before = self.begun.lock().unwrap().len();
        let request = with(post(&name.1.to_string(), vec![body]), "x-body", &body.to_string());
        let request = with(request, "x-tenant", &name.0.to_string());
        let service = self.service.clone();
        let task = tokio::spawn(async move { Ok(Answer::of(service.oneshot(request).await?).await) });
        settle().await;
        let run = (self.begun.lock().unwrap().len() > before).then_some(before);
        if let Some(run) = run {
            {
                let begun = &self.begun.lock().unwrap()[run];
                assert_eq!((begun.name, begun.body), (name, body));
            }
            let since = match self.known(name) {
                None => now(),
                Some(Known::Running { lapsed: true, since, body: first, .. }) if *first == body => *since,
                Some(other) => panic!("run {run} of {name:?} began although {other:?}"),
            };
            self.known.insert(name, Known::Running { run, body, since, lapsed: false });
            assert!(!task.is_finished());
            self.clients.push(Client { name, body, run: Some(run), task });
            return;
        }
        // No run began, so the answer follows from the state.
        assert!(task.is_finished(), "neither run nor answered");
        let answer = task.await.unwrap().unwrap();
        match self.known(name) {
            Some(Known::Done { body: first, .. } | Known::Running { body: first, .. }) if *first != body => {
                assert_eq!(answer.kind(), Some(RejectionKind::KeyReused));
            }
            Some(Known::Done { answer: first, .. }) => {
                assert!(answer.is_replay());
                assert_eq!(answer.brief(), (first.0, &*first.1));
            }
            Some(Known::Running { .. }) => assert_eq!(answer.kind(), Some(RejectionKind::InProgress)),
            None => {
                // This happens only to a run beyond its time to live whose lease is renewed again.
                let lapsed = matches!(self.known.get(&name), Some(Known::Running { lapsed: true, .. }));
                assert!(lapsed && answer.kind().is_some(), "{answer:?}");
            }
        }
    }

    async fn end(&mut self, run: usize, ending: Ending) {
        let (name, body, end) = {
            let begun = &mut self.begun.lock().unwrap()[run];
            (begun.name, begun.body, begun.end.take().unwrap())
        };
        let _ = end.send(ending);
        settle().await;
        let status = match ending {
            Ending::Created => 201,
            Ending::NotFound => 404,
            _ => 503,
        };
        let stored = matches!(ending, Ending::Created | Ending::NotFound);
        let owner = match self.known.get(&name) {
            Some(Known::Running { run: current, since, lapsed, .. }) if *current == run => {
                Some((*since, *lapsed))
            }
            _ => None,
        };
        if let Some((since, _)) = owner {
            self.known.remove(&name);
            if stored {
                let answer = (status, format!("run {run}"));
                self.known.insert(name, Known::Done { body, since, answer });
            }
        }
        let Some(at) = self.clients.iter().position(|client| client.run == Some(run)) else { return };
        let client = self.clients.swap_remove(at);
        assert_eq!((client.name, client.body), (name, body));
        assert!(client.task.is_finished(), "run {run} ended and its client has no answer");
        let forgotten = owner.is_none_or(|(since, lapsed)| lapsed && now() >= since + TTL);
        check(client.task.await, run, ending, (status, stored, owner.is_some(), forgotten));
    }

    /// A run gave its key back.
    fn free(&mut self, name: Name, run: usize) {
        if matches!(self.known.get(&name), Some(Known::Running { run: current, .. }) if *current == run) {
            self.known.remove(&name);
        }
    }
}

/// Checks the response of a run. A run that is no longer the owner must not answer a success that was not stored.
fn check(
    answer: Result<Result<Answer, io::Error>, JoinError>,
    run: usize,
    ending: Ending,
    (status, stored, owns, forgotten): (u16, bool, bool, bool),
) {
    match (ending, answer) {
        (Ending::Panic, Err(error)) => assert!(error.is_panic()),
        (Ending::Error, Ok(Err(error))) => assert_eq!(error.to_string(), format!("run {run}")),
        (_, Ok(Ok(answer))) => {
            let own = answer.brief() == (status, &format!("run {run}")) && !answer.is_replay();
            let late = answer.kind() == Some(RejectionKind::InProgress);
            assert!(own && (owns || !stored) || late && stored && forgotten, "run {run}: {answer:?}");
        }
        (ending, answer) => panic!("run {run}: {ending:?} became {answer:?}"),
    }
}

/// Lets time pass in steps that are short enough for renewals.
async fn pass(millis: u32) {
    let mut left = Duration::from_millis(millis.into());
    while !left.is_zero() {
        let step = left.min(LEASE / 4);
        advance(step).await;
        settle().await;
        left -= step;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_key_has_one_stored_effect_within_its_time_and_every_replay_is_the_same(
        cancels: bool,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(cancels);
            for step in steps {
                world.take(step).await;
            }
        });
    }
}
