//! What the API keeps, as functions on a connection; none of them opens or ends a transaction.
//!
//! Lock order: fax, then its cycle, then the balance.

pub(super) mod balances;
pub(super) mod faxes;
pub(super) mod settings;

use platform::db::columns::{column, named, time};
