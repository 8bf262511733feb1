//! What was measured, as a table.

use std::io::{self, Write};
use std::time::Duration;

use crate::cpu::Cpu;

/// What one build did in one turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) took: Duration,
    /// Of each request, the shortest first.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) cpu: Cpu,
}

/// The turns of each build with each number of accounts, in the order of the first one.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

#[derive(Debug)]
struct Row {
    build: String,
    accounts: usize,
    turns: Vec<Turn>,
}

impl Report {
    pub(crate) fn add(&mut self, build: &str, accounts: usize, turn: Turn) {
        match self.0.iter_mut().find(|row| row.build == build && row.accounts == accounts) {
            Some(row) => row.turns.push(turn),
            None => self.0.push(Row { build: build.to_owned(), accounts, turns: vec![turn] }),
        }
    }

    /// Prints Markdown: medians of the turns, and what they are beside each other in the same round.
    pub(crate) fn print(&self, title: &str) {
        let mut text = format!(
            "\n**{title}**, medians of {} rounds\n\n\
             | build | accounts | requests/s | in rounds | half within | 99 of 100 within | server's CPU | PostgreSQL's | client's |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.0.first().map_or(0, |row| row.turns.len()),
        );
        for row in &self.0 {
            let rates: Vec<f64> = row.turns.iter().map(Turn::rate).collect();
            let micros = |of: fn(&Cpu) -> Duration| {
                median(row.turns.iter().map(|turn| 1e6 * of(&turn.cpu).as_secs_f64() / turn.requests()))
            };
            let millis =
                |part: f64| median(row.turns.iter().map(|turn| 1e3 * turn.quantile(part).as_secs_f64()));
            text += &format!(
                "| {} | {} | {:.0} | {:.0} to {:.0} | {:.1} ms | {:.1} ms | {:.0} µs | {:.0} µs | {:.0} µs |\n",
                row.build,
                row.accounts,
                median(rates.iter().copied()),
                rates.iter().copied().fold(f64::INFINITY, f64::min),
                rates.iter().copied().fold(0.0, f64::max),
                millis(0.5),
                millis(0.99),
                micros(|cpu| cpu.server),
                micros(|cpu| cpu.postgres),
                micros(|cpu| cpu.client),
            );
        }
        text += "\n";
        for row in &self.0 {
            let Some(first) = self.0.first() else { break };
            for other in &self.0 {
                let same_build = row.build == other.build && row.accounts < other.accounts;
                let same_accounts =
                    row.accounts == other.accounts && other.build == first.build && row.build != first.build;
                let beside = if same_build {
                    format!("{} accounts", other.accounts)
                } else if same_accounts {
                    other.build.clone()
                } else {
                    continue;
                };
                let ratios = row.turns.iter().zip(&other.turns).map(|(one, other)| one.rate() / other.rate());
                text +=
                    &format!("{}, {} accounts: {:.2} × {beside}\n", row.build, row.accounts, median(ratios));
            }
        }
        // Whoever closed standard output does not want the table.
        let _ = io::stdout().write_all(text.as_bytes());
    }
}

impl Turn {
    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    fn requests(&self) -> f64 {
        self.latencies.len() as f64
    }

    fn rate(&self) -> f64 {
        self.requests() / self.took.as_secs_f64()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index within the requests"
    )]
    fn quantile(&self, part: f64) -> Duration {
        let index = (part * self.requests()) as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
