//! The interface of transaction scoring engines.

use async_trait::async_trait;
use serde::Serialize;
use utoipa::ToSchema;

use super::{EngineError, RiskLevel, RiskScore};
use crate::money::{Currency, Money};
use platform::api_key::Environment;
use platform::text::text_enum;

/// An engine that scores the risk of a transaction.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, environment: Environment, case: &Case) -> Result<Score, EngineError>;
}

text_enum! {
    /// The type of a transaction.
    pub(crate) enum TransactionType {
        P2pTransfer = "p2p_transfer",
        BillPayment = "bill_payment",
        MerchantPayment = "merchant_payment",
        CashWithdrawal = "cash_withdrawal",
        BankTransfer = "bank_transfer",
        InternationalTransfer = "international_transfer",
    }
}

/// The input of a scoring.
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

/// The circumstances that the caller knows. `None` means unknown, which does not affect the score.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    pub(crate) known_recipient: Option<bool>,
    pub(crate) known_device: Option<bool>,
    pub(crate) vpn: Option<bool>,
    pub(crate) emulator: Option<bool>,
    pub(crate) rooted: Option<bool>,
    /// The hour of the sender's day, 0 to 23.
    pub(crate) hour: Option<u32>,
    /// The number of transactions that the sender has made today.
    pub(crate) daily_count: Option<u32>,
}

text_enum! {
    /// The recommended action.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum TransactionDecision {
        Approve = "approve",
        Review = "review",
        Challenge = "challenge",
        Decline = "decline",
    }
}

/// The result of a scoring.
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

/// The signals that lower the risk, and those that raise it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TransactionSignals)]
pub(crate) struct Signals {
    #[schema(example = json!(["known_recipient"]))]
    pub(crate) positive: Vec<&'static str>,
    #[schema(example = json!(["unusual_amount"]))]
    pub(crate) negative: Vec<&'static str>,
}

/// Whether each group of rules passed.
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

/// A rule that applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RuleTriggered {
    #[schema(example = "unusual_amount")]
    pub(crate) code: &'static str,
    #[schema(example = 150)]
    pub(crate) weight: i32,
    #[schema(example = "Such amounts are rare.")]
    pub(crate) description: &'static str,
}
