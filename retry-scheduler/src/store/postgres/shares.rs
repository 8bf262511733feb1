//! Who has room for more, while a claim is put together.

use std::collections::HashMap;
use std::time::Duration;

use super::sql;
use crate::claim::{ClaimDue, Claimed, Namespaces};
use crate::store::codec;

/// A claim that is being put together.
///
/// First comes one look at what is due the longest. Where that leaves room although somebody is at their share, others may
/// be due behind any number of cycles of theirs. Then the tenants with due cycles are gone through one by one, from where the
/// last claim stopped: some thousand in a call, whatever they have waiting. When all of them were met and there is still room, what is
/// due the longest is claimed without regard to shares.
pub(super) struct Shares {
    pub(super) limit: usize,
    per_tenant: usize,
    running: HashMap<String, usize>,
    namespaces: Namespaces,
    lease: Duration,
    nonce: u64,
    /// Of several calls, the number of the one that the next row is for, and so on.
    calls: Vec<i64>,
}

impl Shares {
    /// `None` where nothing can be claimed.
    pub(super) fn new(request: ClaimDue, nonce: u64) -> Option<Self> {
        let ClaimDue { limit, per_tenant, running, namespaces, lease } = request;
        let calls = Vec::new();
        (limit > 0).then_some(Self { limit, per_tenant, running, namespaces, lease, nonce, calls })
    }

    /// The same for several calls, each with so much of the limit. No tenant of theirs reaches their share.
    pub(super) fn for_many(
        request: ClaimDue,
        nonce: u64,
        limits: impl Iterator<Item = usize>,
    ) -> Option<Self> {
        let calls = (0..).zip(limits).flat_map(|(call, limit)| std::iter::repeat_n(call, limit)).collect();
        let nonce = nonce & !(sql::MOST_CALLS - 1).cast_unsigned();
        Some(Self { calls, ..Self::new(request, nonce)? })
    }

    /// What is left of `limit` after these, and whether somebody is at their share by now.
    pub(super) fn take(&mut self, claimed: &[Claimed]) {
        self.limit = self.limit.saturating_sub(claimed.len());
        for claimed in claimed {
            if let Some(taken) = self.calls.iter().position(|call| *call == call_of(claimed)) {
                self.calls.remove(taken);
            }
            match self.running.get_mut(&claimed.cycle.tenant) {
                Some(count) => *count += 1,
                None => {
                    self.running.insert(claimed.cycle.tenant.clone(), 1);
                }
            }
        }
    }

    /// Whether cycles may be due that were passed over.
    pub(super) fn passed_over(&self) -> bool {
        self.limit > 0
            && (self.per_tenant == 0 || self.running.values().any(|count| *count >= self.per_tenant))
    }

    /// Lets every tenant have what is left.
    pub(super) fn lift(&mut self) {
        self.per_tenant = usize::MAX;
    }

    /// Whether nobody can reach their share with what is left of `limit`.
    pub(super) fn all_have_room(&self) -> bool {
        let most = self.running.values().max().copied().unwrap_or(0);
        self.per_tenant.saturating_sub(most) >= self.limit
    }

    /// How many more of this tenant.
    pub(super) fn room(&self, tenant: &str) -> usize {
        self.per_tenant.saturating_sub(self.running.get(tenant).copied().unwrap_or(0))
    }

    pub(super) fn per_tenant(&self) -> i64 {
        column(self.per_tenant)
    }

    /// The tenants that have something running, with how much.
    pub(super) fn running(&self) -> impl Iterator<Item = (&str, i64)> {
        self.running.iter().map(|(tenant, count)| (tenant.as_str(), column(*count)))
    }

    /// For several calls, which one each of the next rows is for.
    pub(super) fn calls(&self) -> Option<&[i64]> {
        (!self.calls.is_empty()).then_some(&self.calls)
    }

    pub(super) fn lease(&self) -> i64 {
        codec::duration_ms(self.lease)
    }

    pub(super) fn nonce(&self) -> i64 {
        codec::nonce_column(self.nonce)
    }

    pub(super) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }
}

/// Which of several calls a cycle was claimed for.
pub(super) fn call_of(claimed: &Claimed) -> i64 {
    codec::nonce_column(claimed.cycle.nonce) & (sql::MOST_CALLS - 1)
}

/// Where the next claim that goes through the tenants begins, of those on the way through.
pub(super) fn behind(tenant: &str) -> String {
    // Nothing lies between a text and the same with the least character that a tenant can have.
    format!("{tenant}\u{1}")
}

/// A count for a column: the largest one stands for those that are larger.
pub(super) fn column(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
