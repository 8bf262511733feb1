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
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn print(&self, title: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "\n**{title}**\n")?;
        writeln!(
            out,
            "| build | accounts | requests/s | in rounds | half within | 99 of 100 within | server's CPU | PostgreSQL's | client's |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for row in &self.0 {
            let rates: Vec<f64> = row.turns.iter().map(Turn::rate).collect();
            let micros = |of: fn(&Cpu) -> Duration| {
                median(row.turns.iter().map(|turn| 1e6 * of(&turn.cpu).as_secs_f64() / turn.requests()))
            };
            let millis =
                |part: f64| median(row.turns.iter().map(|turn| 1e3 * turn.quantile(part).as_secs_f64()));
            writeln!(
                out,
                "| {} | {} | {:.0} | {:.0} to {:.0} | {:.1} ms | {:.1} ms | {:.0} µs | {:.0} µs | {:.0} µs |",
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
            )?;
        }
        writeln!(out)?;
        let first = self.0.first().map(|row| &row.build);
        for row in &self.0 {
            for other in &self.0 {
                let beside = if row.build == other.build && row.accounts < other.accounts {
                    format!("{} accounts", other.accounts)
                } else if row.accounts == other.accounts
                    && Some(&other.build) == first
                    && row.build != other.build
                {
                    other.build.clone()
                } else {
                    continue;
                };
                let ratios = row.turns.iter().zip(&other.turns).map(|(one, other)| one.rate() / other.rate());
                writeln!(out, "{}, {} accounts: {:.2} × {beside}", row.build, row.accounts, median(ratios))?;
            }
        }
        Ok(())
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
