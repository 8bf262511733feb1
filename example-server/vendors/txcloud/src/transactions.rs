//! `POST /transactions/score`.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::api::{Call, respond, timed};
use super::engines::transaction::{
    Case, Context as Circumstances, Recipient, Score, Sender, TransactionType,
};
use super::errors::Failure;
use super::ids;
use super::money::{Currency, Money};
use super::reading::{Object, Raw};

/// Scores a transaction before it is made.
#[utoipa::path(
    post, path = "/transactions/score", operation_id = "scoreTransaction", tag = "Transactions", request_body = TransactionRequest,
    responses(
        (status = 200, description = "The risk score and a recommendation", body = TransactionScore),
        (status = 400, description = "missing_parameter invalid_parameter"),
    ),
)]
pub(super) async fn score(Call { api, user, context }: Call, Raw(body): Raw) -> Response {
    let done = async {
        let case = read(&body)?;
        let asking = api.engines.transaction.judge(user.environment(), &case);
        let (score, processing_time_ms) = timed("transaction", asking).await?;
        let id = ids::new("trs");
        Ok((StatusCode::OK, TransactionScore { id, object: "transaction.score", score, processing_time_ms }))
    };
    respond(&context, done.await)
}

/// Parses the request.
fn read(body: &[u8]) -> Result<Case, Failure> {
    let body = Object::body(body)?;
    let currency = body.required("currency");
    let amount = body.required("amount")?;
    let currency = currency?.currency()?;
    let case = Case {
        transaction_id: body.optional_text("transaction_id")?,
        amount: amount.money_above_zero(Some(currency))?,
        currency,
        kind: body.required("type")?.one_of(TransactionType::ALL)?,
        sender: sender(&body.required("sender")?.object()?)?,
        recipient: recipient(&body.required("recipient")?.object()?)?,
        context: match body.optional("context") {
            Some(context) => circumstances(&context.object()?)?,
            None => Circumstances::default(),
        },
    };
    body.optional("metadata").map(|metadata| metadata.free_form()).transpose()?;
    Ok(case)
}

fn sender(sender: &Object<'_>) -> Result<Sender, Failure> {
    let ip_address = match (sender.optional("ip_address"), sender.optional_text("ip_address")?) {
        (Some(field), Some(text)) => Some(text.parse().map_err(|_| field.refused("must be an IP address"))?),
        _ => None,
    };
    Ok(Sender {
        user_id: sender.optional_text("user_id")?,
        account_id: sender.optional_text("account_id")?,
        device_id: sender.optional_text("device_id")?,
        ip_address,
    })
}

fn recipient(recipient: &Object<'_>) -> Result<Recipient, Failure> {
    Ok(Recipient {
        kind: recipient.optional_text("type")?,
        value: recipient.optional_text("value")?,
        name: recipient.optional_text("name")?,
    })
}

fn circumstances(context: &Object<'_>) -> Result<Circumstances, Failure> {
    let flag = |name| context.optional(name).map(|field| field.flag()).transpose();
    let integer = |name, range| context.optional(name).map(|field| field.integer(range)).transpose();
    Ok(Circumstances {
        known_recipient: flag("known_recipient")?,
        known_device: flag("known_device")?,
        vpn: flag("vpn")?,
        emulator: flag("emulator")?,
        rooted: flag("rooted")?,
        hour: integer("hour", 0..=23)?,
        daily_count: integer("daily_count", 0..=1_000_000)?,
    })
}

/// The response: the judgement and its identity.
#[derive(Serialize, ToSchema)]
struct TransactionScore {
    #[schema(example = "trs_0199f3a1b2c37d4e8f5a6b7c8d9e0f1a")]
    id: String,
    #[schema(example = "transaction.score")]
    object: &'static str,
    #[serde(flatten)]
    score: Score,
    #[schema(example = 1)]
    processing_time_ms: u64,
}

/// A transaction before it is made.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct TransactionRequest {
    #[schema(min_length = 1, max_length = 200, example = "txn_1")]
    transaction_id: Option<String>,
    /// More than 0, with at most the decimals of its currency.
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 99_999_999_999.999_9, example = 5000)]
    amount: Money,
    currency: Currency,
    r#type: TransactionType,
    sender: SenderRequest,
    recipient: RecipientRequest,
    context: Option<ContextRequest>,
    /// Validated but not used, except `sandbox_delay_ms` of test keys: the delay in milliseconds, at
    /// most 5000.
    #[schema(value_type = Option<Object>, example = json!({"order": "456"}))]
    metadata: Option<Map<String, Value>>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct SenderRequest {
    #[schema(min_length = 1, max_length = 200, example = "usr_abc123")]
    user_id: Option<String>,
    #[schema(min_length = 1, max_length = 200, example = "acc_1")]
    account_id: Option<String>,
    #[schema(min_length = 1, max_length = 200, example = "dev_xyz789")]
    device_id: Option<String>,
    #[schema(example = "192.0.2.1")]
    ip_address: Option<String>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct RecipientRequest {
    #[schema(min_length = 1, max_length = 200, example = "phone")]
    r#type: Option<String>,
    #[schema(min_length = 1, max_length = 200, example = "+212612345678")]
    value: Option<String>,
    #[schema(min_length = 1, max_length = 200, example = "Amina Exemple")]
    name: Option<String>,
}

/// The circumstances that the caller knows. The names are ours; other fields are ignored.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct ContextRequest {
    #[schema(example = true)]
    known_recipient: Option<bool>,
    #[schema(example = true)]
    known_device: Option<bool>,
    #[schema(example = false)]
    vpn: Option<bool>,
    #[schema(example = false)]
    emulator: Option<bool>,
    #[schema(example = false)]
    rooted: Option<bool>,
    /// The local hour of the sender.
    #[schema(maximum = 23, example = 14)]
    hour: Option<u32>,
    /// The number of transactions that the sender has made today.
    #[schema(maximum = 1_000_000, example = 2)]
    daily_count: Option<u32>,
}
