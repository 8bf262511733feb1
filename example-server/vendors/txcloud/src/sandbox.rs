//! The sandbox engines: deterministic rules, in public tables.
//!
//! Each check is a table of [`Rule`]s and some further tables. `docs/TXCLOUD_SANDBOX.md` shows all
//! of them, and a test keeps it in sync. All people, businesses and lists are made up.

mod identity;
mod kyb;
mod lending;
#[cfg(test)]
mod page;
mod transaction;
mod watchlist;

use std::sync::Arc;

use async_trait::async_trait;

use super::engines::{self, EngineError, Engines};
use platform::api_key::Environment;

/// The sandbox engines, for test keys and live keys.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sandbox;

impl Engines {
    /// Returns the sandbox as the engine of every check.
    pub(crate) fn sandbox() -> Self {
        let sandbox = Arc::new(Sandbox);
        Self {
            identity: sandbox.clone(),
            transaction: sandbox.clone(),
            lending: sandbox.clone(),
            kyb: sandbox.clone(),
            watchlist: sandbox,
        }
    }
}

#[async_trait]
impl engines::identity::Engine for Sandbox {
    async fn receive(
        &self,
        _: Environment,
        images: &engines::identity::Images,
    ) -> Result<engines::identity::Evidence, EngineError> {
        Ok(identity::receive(images))
    }

    async fn judge(
        &self,
        _: Environment,
        case: &engines::identity::Case,
    ) -> Result<engines::identity::Findings, EngineError> {
        Ok(identity::judge(case))
    }
}

#[async_trait]
impl engines::transaction::Engine for Sandbox {
    async fn judge(
        &self,
        _: Environment,
        case: &engines::transaction::Case,
    ) -> Result<engines::transaction::Score, EngineError> {
        Ok(transaction::judge(case))
    }
}

#[async_trait]
impl engines::lending::Engine for Sandbox {
    async fn judge(
        &self,
        _: Environment,
        case: &engines::lending::Case,
    ) -> Result<engines::lending::Assessment, EngineError> {
        Ok(lending::judge(case))
    }
}

#[async_trait]
impl engines::kyb::Engine for Sandbox {
    async fn judge(
        &self,
        _: Environment,
        case: &engines::kyb::Case,
    ) -> Result<engines::kyb::Findings, EngineError> {
        Ok(kyb::judge(case))
    }
}

#[async_trait]
impl engines::watchlist::Engine for Sandbox {
    async fn judge(
        &self,
        _: Environment,
        case: &engines::watchlist::Case,
    ) -> Result<engines::watchlist::Screening, EngineError> {
        Ok(watchlist::judge(case))
    }
}

/// A row of a table: the effect on a case for which the condition holds.
struct Rule<Case: 'static, Effect: 'static> {
    name: &'static str,
    /// The condition, in words.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page of rules"))]
    when: &'static str,
    /// The condition, in code.
    holds: fn(&Case) -> bool,
    effect: Effect,
    why: &'static str,
}

/// Returns the rules whose condition holds, in the order of their table.
fn triggered<'r, Case, Effect>(
    rules: &'r [Rule<Case, Effect>],
    case: &'r Case,
) -> impl Iterator<Item = &'r Rule<Case, Effect>> {
    rules.iter().filter(|rule| (rule.holds)(case))
}
