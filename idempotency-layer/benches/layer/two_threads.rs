//! One thread, then two at the same time, on one layer and its store.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Kind, Load, Requests};

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
pub(super) fn print() {
    println!("\n| two threads beside one | requests/s |");
    println!("|---|--:|");
    for kind in Kind::ALL {
        let (mut alone, mut both) = (Vec::new(), Vec::new());
        for _ in 0..STORES {
            take_turns(kind, &mut alone, &mut both);
        }
        println!(
            "| {} | {:.2} |",
            kind.name(),
            2.0 * fastest_tenth(alone).div_duration_f64(fastest_tenth(both))
        );
    }
}

fn fastest_tenth(mut turns: Vec<Duration>) -> Duration {
    turns.sort_unstable();
    turns[turns.len() / 10]
}

fn take_turns(kind: Kind, alone: &mut Vec<Duration>, both: &mut Vec<Duration>) {
    let (runtime, other) = (runtime(), runtime());
    let mut requests = Requests::holding(TIMES, &runtime);
    let mut others = requests.beside(&other);
    others.time(Kind::First, TIMES);
    let waiting = AtomicUsize::new(0);
    let arrive = |expected: usize| {
        waiting.fetch_add(1, Ordering::AcqRel);
        while waiting.load(Ordering::Acquire) < expected {
            spin_loop();
        }
    };
    thread::scope(|threads| {
        let beside = threads.spawn(|| {
            let mut both = Vec::with_capacity(TURNS);
            for turn in 0..TURNS {
                both.push(others.time_from(kind, TIMES, || arrive(turn * 4 + 2)));
                arrive(turn * 4 + 4);
            }
            both
        });
        let mut here = Vec::with_capacity(TURNS);
        for turn in 0..TURNS {
            here.push(requests.time_from(kind, TIMES, || arrive(turn * 4 + 2)));
            alone.push(requests.time(kind, TIMES));
            arrive(turn * 4 + 4);
        }
        let beside = beside.join().expect("no panic");
        both.extend(here.into_iter().zip(beside).map(|(here, beside)| here.max(beside)));
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}
