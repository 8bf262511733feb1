//! `GET /v1/usage/summary` and `GET /v1/usage/limits`: the account's usage and limits.

use std::time::Duration;

use axum::response::Response;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{Api, Call};
use super::envelope::{Envelope, Resource};
use super::errors::{Failure, Text};
use super::store::{quota, usage};
use platform::account::AccountPlan;
use platform::clock;
use platform::db::Database;
use platform::utc::Utc;
use platform::vendor::Caller;

/// Reads how many of the month's validations are used and how many remain.
///
/// `tone` is `warn` from 70 % on and `danger` from 90 % on.
#[utoipa::path(
    get, path = "/usage/summary", operation_id = "getUsageSummary", tag = "Usage",
    responses((status = 200, description = "The quota of this month", body = Envelope<Resource<Summary>>))
)]
pub(super) async fn summary(Call { api, user, context }: Call) -> Response {
    let now = clock::timestamp();
    let quota = async {
        let mut reader = api.database.read().await?;
        quota::load(reader.connection(), user.id(), &quota::month(now)).await
    };
    match quota.await {
        Ok(quota) => {
            let attributes = Summary::of(user.plan(), user.monthly_quota().into(), quota.used, now);
            context.ok(&Resource { r#type: "usage_summary", attributes })
        }
        Err(error) => context.fail(&Failure::unavailable(&error)),
    }
}

/// Reads the rate limits of the account's keys.
///
/// The number of requests that remain at the moment is in the `X-RateLimit-*` headers of each
/// response.
#[utoipa::path(
    get, path = "/usage/limits", operation_id = "getUsageLimits", tag = "Usage",
    responses((status = 200, description = "The rate limits of the key", body = Envelope<Resource<Limits>>))
)]
pub(super) async fn limits(Call { user, context, .. }: Call) -> Response {
    let note = Text {
        english: "Above a limit, the operation responds 429 with Retry-After.".into(),
        spanish: "Al superar un límite, la operación responde 429 con Retry-After.".into(),
    };
    let attributes = Limits {
        rate_limits: RateLimits { api: ApiLimits { key_per_minute: user.bucket().limit() } },
        notes: vec![context.say(&note).to_owned()],
    };
    context.ok(&Resource { r#type: "usage_limits", attributes })
}

/// Deletes old usage records. Runs forever.
pub(super) async fn run_maintenance(api: &Api) {
    let mut ticks = tokio::time::interval(FORGET_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = forget(&api.database, clock::timestamp()).await {
            tracing::warn!(%error, "could not delete old usage records");
        }
    }
}

const FORGET_EVERY: Duration = Duration::from_hours(1);
/// The number of months kept in addition to the present one, which allows a comparison with the
/// year before.
const MONTHS_KEPT: i32 = 12;

async fn forget(database: &Database, now: Timestamp) -> sqlx::Result<()> {
    let Ok(first) = now.to_zoned(TimeZone::UTC).checked_sub(MONTHS_KEPT.months()) else { return Ok(()) };
    let mut transaction = database.begin().await?;
    let first = quota::month(first.timestamp());
    quota::forget_before(transaction.connection(), &first).await?;
    usage::forget_before(transaction.connection(), &first).await?;
    transaction.commit().await
}

/// The quota of this month.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = UsageSummary)]
pub(super) struct Summary {
    #[schema(example = "pro")]
    plan_slug: &'static str,
    #[schema(example = "Pro")]
    plan_name: &'static str,
    #[schema(example = 50000)]
    limit: u64,
    #[schema(example = 420)]
    used: u64,
    #[schema(example = 49580)]
    remaining: u64,
    /// In percent of the limit, with two decimals. Above 100 if the plan has shrunk meanwhile.
    #[schema(example = 0.84)]
    used_percent: f64,
    tone: Tone,
    resets_at: Utc,
    /// The same as `resets_at`.
    next_reset_at: Utc,
    #[schema(example = "cycle")]
    quota_kind: &'static str,
    renews: bool,
}

/// The urgency: a warning from 70 % used on, a danger from 90 % on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Tone {
    Ok,
    Warn,
    Danger,
}

impl Summary {
    fn of(plan: AccountPlan, limit: u64, used: u64, now: Timestamp) -> Self {
        // A limit of 0 counts as fully used.
        let hundredths = (used * 10_000 + limit / 2).checked_div(limit).unwrap_or(10_000);
        let resets_at = Utc(usage::end_of_month(now));
        Self {
            plan_slug: plan.as_str(),
            plan_name: plan.name(),
            limit,
            used,
            remaining: limit.saturating_sub(used),
            #[allow(clippy::cast_precision_loss, reason = "quotas are 32 bits long")]
            used_percent: hundredths as f64 / 100.0,
            tone: match hundredths {
                ..7_000 => Tone::Ok,
                7_000..9_000 => Tone::Warn,
                _ => Tone::Danger,
            },
            resets_at,
            next_reset_at: resets_at,
            quota_kind: "cycle",
            renews: true,
        }
    }
}

/// The limits that apply, by context.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageLimits)]
pub(super) struct Limits {
    rate_limits: RateLimits,
    /// Notes for people.
    #[schema(example = json!(["Above a limit, the operation responds 429 with Retry-After."]))]
    notes: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RateLimits {
    api: ApiLimits,
}

#[derive(Debug, Serialize, ToSchema)]
struct ApiLimits {
    /// Requests a minute of one key.
    #[schema(example = 600)]
    key_per_minute: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limit: u64, used: u64) -> (u64, f64, Tone) {
        let summary = Summary::of(AccountPlan::Basic, limit, used, "2026-11-22T09:30:00Z".parse().unwrap());
        assert_eq!(serde_json::to_value(summary.resets_at).unwrap(), "2026-12-01T00:00:00Z");
        assert_eq!(summary.resets_at, summary.next_reset_at);
        (summary.remaining, summary.used_percent, summary.tone)
    }

    #[test]
    fn the_tone_follows_the_used_share_of_the_limit() {
        for (limit, used, expected) in [
            (1000, 0, (1000, 0.0, Tone::Ok)),
            (1000, 420, (580, 42.0, Tone::Ok)),
            (1000, 699, (301, 69.9, Tone::Ok)),
            (1000, 700, (300, 70.0, Tone::Warn)),
            (1000, 899, (101, 89.9, Tone::Warn)),
            (1000, 900, (100, 90.0, Tone::Danger)),
            (1000, 1000, (0, 100.0, Tone::Danger)),
            (1000, 1200, (0, 120.0, Tone::Danger)),
            (3, 1, (2, 33.33, Tone::Ok)),
            (3, 2, (1, 66.67, Tone::Ok)),
            (0, 0, (0, 100.0, Tone::Danger)),
        ] {
            assert_eq!(of(limit, used), expected, "{used} of {limit}");
        }
    }

    #[tokio::test]
    async fn only_usage_of_more_than_a_year_ago_is_deleted() {
        let now: Timestamp = "2026-11-22T09:30:00Z".parse().unwrap();
        // Long ago, the last time that is deleted, the first that is kept, and today; each as a
        // month and as a day.
        let times =
            ["2019-01-31T12:00:00Z", "2025-10-31T23:59:59Z", "2025-11-01T00:00:00Z", "2026-11-22T09:30:00Z"];
        let times = times.map(|time| time.parse::<Timestamp>().unwrap());
        for url in ["sqlite::memory:".to_owned(), private_postgres::shared_database()] {
            let database = Database::open(&url).await.unwrap();
            for time in times {
                let month = quota::month(time);
                quota::divide(&database, "acme", &month, 9).await.unwrap();
                let mut transaction = database.begin().await.unwrap();
                assert!(quota::charge(transaction.connection(), "acme", &month).await.unwrap());
                // One each.
                assert!(usage::charge_retry(transaction.connection(), "acme", time, 1).await.unwrap());
                transaction.commit().await.unwrap();
            }
            forget(&database, now).await.unwrap();
            let (mut validations, mut retries) = (Vec::new(), Vec::new());
            for time in times {
                let mut transaction = database.begin().await.unwrap();
                let month = quota::month(time);
                validations.push(quota::load(transaction.connection(), "acme", &month).await.unwrap().used);
                let is_left = usage::charge_retry(transaction.connection(), "acme", time, 1).await.unwrap();
                retries.push(u64::from(!is_left));
            }
            assert_eq!((validations, retries), (vec![0, 0, 1, 1], vec![0, 0, 1, 1]), "{url}");
        }
    }
}
