//! Processor times, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// The processor time that programs have used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) server: Duration,
    /// Of all processes of the PostgreSQL server that this process started.
    pub(crate) postgres: Duration,
    pub(crate) client: Duration,
}

/// A process, as far as it matters here.
struct Process {
    name: String,
    parent: u32,
    used: Duration,
    /// By its children that have ended.
    used_by_children: Duration,
}

impl Cpu {
    pub(crate) fn now(server: u32) -> Self {
        let processes = processes();
        let used = |id| processes.get(&id).map_or(Duration::ZERO, |process: &Process| process.used);
        let is_ours = |mut id: u32| {
            while let Some(process) = processes.get(&id) {
                if process.parent == std::process::id() {
                    return true;
                }
                id = process.parent;
            }
            false
        };
        let postgres = processes.iter().filter(|(id, process)| process.name == "postgres" && is_ours(**id));
        Self {
            server: used(server),
            postgres: postgres.map(|(_, process)| process.used + process.used_by_children).sum(),
            client: used(std::process::id()),
        }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            postgres: self.postgres.saturating_sub(before.postgres),
            client: self.client.saturating_sub(before.client),
        }
    }
}

fn processes() -> HashMap<u32, Process> {
    let folders = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| Some((id, process(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?)))
        .collect()
}

/// See `proc_pid_stat(5)`. A name may have spaces and parentheses in it.
fn process(line: &str) -> Option<Process> {
    let (start, rest) = line.rsplit_once(')')?;
    let name = start.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok());
    // A hundred a second, on every architecture that Linux runs on today.
    let time = |ticks| Duration::from_millis(10 * ticks);
    Some(Process {
        name,
        parent: fields.get(1)?.parse().ok()?,
        used: time(ticks(11)? + ticks(12)?),
        used_by_children: time(ticks(13)? + ticks(14)?),
    })
}
