//! What the server does when its log, its disk or its database file lets it down.

mod log;
