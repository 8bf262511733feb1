-- Who has had a webhook: the row to lock while their number is looked at.
CREATE TABLE webhook_accounts (
    account TEXT NOT NULL PRIMARY KEY
);

CREATE TABLE webhook_endpoints (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    url TEXT NOT NULL,
    -- With a comma before and after each.
    events TEXT NOT NULL,
    description TEXT,
    -- active, disabled or auto_disabled
    status TEXT NOT NULL,
    -- Sealed; what it was sealed with stands before the point.
    secret TEXT NOT NULL,
    -- Its last four digits.
    secret_hint TEXT NOT NULL,
    -- Tries that failed since one succeeded.
    consecutive_failures BIGINT NOT NULL,
    last_delivery_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX webhook_endpoints_of_account ON webhook_endpoints (account, created_at, id);

-- What is to be sent, and what came of sending it. The scheduler's cycle of the same number sends it.
CREATE TABLE webhook_deliveries (
    -- Of the order in which they were made; drawn by the program, since no one text makes both databases count.
    id BIGINT NOT NULL PRIMARY KEY,
    -- No reference: an endpoint may go while a delivery to it is being made, which then ends by itself.
    endpoint TEXT NOT NULL,
    account TEXT NOT NULL,
    event TEXT NOT NULL,
    -- What the event is about.
    subject TEXT,
    -- The bytes of every try; none once there is no more to come.
    payload TEXT,
    -- pending, retrying, success or failed
    status TEXT NOT NULL,
    -- Of the last try, from 1.
    attempt BIGINT NOT NULL,
    response_status BIGINT,
    response_body TEXT,
    response_time_ms BIGINT,
    next_retry_at BIGINT,
    error_message TEXT,
    created_at BIGINT NOT NULL
);

CREATE INDEX webhook_deliveries_of_account ON webhook_deliveries (account, id);
CREATE INDEX webhook_deliveries_of_endpoint ON webhook_deliveries (endpoint, id);
CREATE INDEX webhook_deliveries_open ON webhook_deliveries (id) WHERE status IN ('pending', 'retrying');
