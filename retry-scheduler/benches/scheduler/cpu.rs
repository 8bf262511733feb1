//! The time that processors spent on a bench: this process, and the server that it started. Where others use the machine
//! too, it says more than the clock. Linux only: elsewhere it is nothing.

use std::collections::HashMap;
use std::time::Duration;
use std::{fs, process};

/// How long a tick of `/proc` is: 100 a second, on every platform that Rust's standard library has.
const TICK: Duration = Duration::from_millis(10);

/// Of this process and all that descend from it and live.
pub(crate) fn spent() -> Duration {
    let mut parents = HashMap::new();
    let mut ticks = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may have anything in it.
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let fields = fields.split(' ').map(|field| field.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
        parents.insert(id, fields[1]);
        ticks.insert(id, fields[11] + fields[12]);
    }
    let descends = |mut id: u32| {
        while let Some(parent) = parents.get(&id).filter(|_| id != process::id()) {
            id = *parent;
        }
        id == process::id()
    };
    TICK * ticks.iter().filter(|(id, _)| descends(**id)).map(|(_, ticks)| ticks).sum()
}
