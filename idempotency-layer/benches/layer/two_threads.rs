//! One thread, then two at the same time, on one layer and its store.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Echo, Kind, Load, Requests, plain_service, router};

/// The number of new stores that the two threads share, one after the other.
const STORES: usize = 10;
/// The number of turns of one thread and of two on a store.
const TURNS: usize = 60;
/// The number of requests of each thread in a turn. They take less than a millisecond, so that many turns find both cores
/// free.
const TIMES: usize = 250;

/// Returns the throughput of two threads as a multiple of that of one. Only the fastest tenth of the turns is compared, because
/// on a machine with other work the rest show how many cores were free. The figure of the bare handler shows the limit of
/// the machine.
///
/// The clones of axum's router share a reference count, which slows two threads down with and without the layer. Plain
/// services share nothing, so their figures are the layer's own.
pub(super) fn print() {
    println!("\n| two threads beside one, requests/s | in a router | plain services |");
    println!("|---|--:|--:|");
    for kind in Kind::ALL {
        let (in_router, plain) = (two_beside_one(kind, &router()), two_beside_one(kind, &plain_service()));
        println!("| {} | {in_router:.2} | {plain:.2} |", kind.name());
    }
}

fn two_beside_one(kind: Kind, service: &impl Echo) -> f64 {
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    for _ in 0..STORES {
        take_turns(kind, service, &mut alone, &mut both);
    }
    2.0 * fastest_tenth(alone).div_duration_f64(fastest_tenth(both))
}

fn fastest_tenth(mut turns: Vec<Duration>) -> Duration {
    turns.sort_unstable();
    turns[turns.len() / 10]
}

fn take_turns(kind: Kind, service: &impl Echo, alone: &mut Vec<Duration>, both: &mut Vec<Duration>) {
    let (runtime, other) = (runtime(), runtime());
    let mut requests = Requests::holding(service.clone(), TIMES, &runtime);
    let mut others = requests.beside(&other);
    others.time(Kind::First, TIMES);
    let waiting = AtomicUsize::new(0);
    let arrive = |expected: usize| {
        waiting.fetch_add(1, Ordering::AcqRel);
        while waiting.load(Ordering::Acquire) < expected {
            spin_loop();
        }
    };
    // Both are new threads, whose memory the allocator handles alike.
    let (here, beside) = thread::scope(|threads| {
        let beside = threads.spawn(|| {
            let mut both = Vec::with_capacity(TURNS);
            for turn in 0..TURNS {
                both.push(others.time_from(kind, TIMES, || arrive(turn * 4 + 2)));
                arrive(turn * 4 + 4);
            }
            both
        });
        let here = threads.spawn(|| {
            let mut both = Vec::with_capacity(TURNS);
            for turn in 0..TURNS {
                both.push(requests.time_from(kind, TIMES, || arrive(turn * 4 + 2)));
                alone.push(requests.time(kind, TIMES));
                arrive(turn * 4 + 4);
            }
            both
        });
        (here.join().expect("no panic"), beside.join().expect("no panic"))
    });
    both.extend(here.into_iter().zip(beside).map(|(here, beside)| here.max(beside)));
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}
