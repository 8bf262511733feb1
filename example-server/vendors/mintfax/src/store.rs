//! The API's tables, as functions on a connection. None of them begins or ends a transaction.
//!
//! Lock order: fax, then its cycle, then the balance.

pub(super) mod balances;
pub(super) mod faxes;
pub(super) mod settings;

use platform::db::columns::{column, named, time};
