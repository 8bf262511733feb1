//! The tables of this API. The functions take a connection, and none of them opens or ends a
//! transaction.

pub(super) mod attempts;
pub(super) mod ceps;
pub(super) mod images;
pub(super) mod policies;
pub(super) mod quota;
pub(super) mod standing;
pub(super) mod usage;
pub(super) mod validations;

use platform::db::columns::{column, named, time};
