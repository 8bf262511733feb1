//! What the server promises when it is killed: the real binary, its database, and clients that ask until they are answered.

mod anytime;
mod clients;
mod cycles;
mod database;
mod demo;
mod fax_load;
mod fax_points;
mod faxes;
mod ledger;
mod outage;
mod pair;
mod points;
mod queue;
mod random;
mod stopping;
mod txcloud;
mod webhooks;
