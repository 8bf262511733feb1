//! What is asked and said about a transaction.

use async_trait::async_trait;
use serde::Serialize;
use utoipa::ToSchema;

use super::{EngineFault, RiskLevel, RiskScore};
use crate::money::{Currency, Money};
use platform::api_key::Environment;
use platform::text::text_enum;

/// How risky a transaction is.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, of: Environment, case: &Case) -> Result<Score, EngineFault>;
}

text_enum! {
    /// How money moves.
    pub(crate) enum TransactionType {
        /// `p2p_transfer`
        P2pTransfer = "p2p_transfer",
        /// `bill_payment`
        BillPayment = "bill_payment",
        /// `merchant_payment`
        MerchantPayment = "merchant_payment",
        /// `cash_withdrawal`
        CashWithdrawal = "cash_withdrawal",
        /// `bank_transfer`
        BankTransfer = "bank_transfer",
        /// `international_transfer`
        InternationalTransfer = "international_transfer",
    }
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) transaction_id: Option<String>,
    pub(crate) amount: Money,
    pub(crate) currency: Currency,
    pub(crate) kind: TransactionType,
    pub(crate) sender: Sender,
    pub(crate) recipient: Recipient,
    pub(crate) context: Context,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Sender {
    pub(crate) user_id: Option<String>,
    pub(crate) account_id: Option<String>,
    pub(crate) device_id: Option<String>,
    pub(crate) ip_address: Option<std::net::IpAddr>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Recipient {
    pub(crate) kind: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) name: Option<String>,
}

/// What the caller knows of the circumstances. `None` is not known, which is neither good nor bad.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    pub(crate) known_recipient: Option<bool>,
    pub(crate) known_device: Option<bool>,
    pub(crate) vpn: Option<bool>,
    pub(crate) emulator: Option<bool>,
    pub(crate) rooted: Option<bool>,
    /// The hour of the sender's day, 0 to 23.
    pub(crate) hour: Option<u32>,
    /// How many transactions the sender has made today.
    pub(crate) daily_count: Option<u32>,
}

text_enum! {
    /// What to do.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum TransactionDecision {
        /// `approve`
        Approve = "approve",
        /// `review`
        Review = "review",
        /// `challenge`
        Challenge = "challenge",
        /// `decline`
        Decline = "decline",
    }
}

/// The judgement.
#[expect(clippy::struct_field_names, reason = "the vendor's names")]
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Score {
    pub(crate) decision: TransactionDecision,
    pub(crate) risk_score: RiskScore,
    pub(crate) risk_level: RiskLevel,
    pub(crate) signals: Signals,
    pub(crate) checks: Checks,
    pub(crate) rules_triggered: Vec<RuleTriggered>,
}

/// What speaks for it, and what against.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TransactionSignals)]
pub(crate) struct Signals {
    #[schema(example = json!(["known_recipient"]))]
    pub(crate) positive: Vec<&'static str>,
    #[schema(example = json!(["unusual_amount"]))]
    pub(crate) negative: Vec<&'static str>,
}

/// Whether a group of rules found nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TransactionChecks)]
pub(crate) struct Checks {
    pub(crate) velocity: Passed,
    pub(crate) amount: Passed,
    pub(crate) recipient: Passed,
    pub(crate) device: Passed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Passed {
    #[schema(example = true)]
    pub(crate) passed: bool,
}

/// A rule whose condition held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RuleTriggered {
    #[schema(example = "unusual_amount")]
    pub(crate) code: &'static str,
    #[schema(example = 150)]
    pub(crate) weight: i32,
    #[schema(example = "Sums like this are rare.")]
    pub(crate) description: &'static str,
}
