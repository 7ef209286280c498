-- Alerts as they came, for GET /v1/alerts and for the text of messages. Times are microseconds since 1970.
-- `seen_us` is when the notifier stored it, `tenant` is empty for scopes wider than a tenant.
CREATE TABLE notifier_alerts (
    id         TEXT NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    title      TEXT NOT NULL,
    body       TEXT NOT NULL,
    at_us      BIGINT NOT NULL,
    limit_name TEXT,
    level      TEXT,
    used       TEXT,
    max_amount TEXT,
    decision   TEXT,
    until_us   BIGINT,
    seen_us    BIGINT NOT NULL
);
CREATE INDEX notifier_alerts_newest ON notifier_alerts (at_us, id);
CREATE INDEX notifier_alerts_seen ON notifier_alerts (seen_us);

-- One row per message and channel. `message` is an alert's id or, where `form` is 'digest', a digest's.
-- `slot_us` is when the message counts against its channel's bound per tenant. A row in state 'pending' is due at
-- `next_us` unless somebody holds it until `leased_until_us`.
CREATE TABLE notifier_outbox (
    message         TEXT NOT NULL,
    channel         TEXT NOT NULL,
    form            TEXT NOT NULL CHECK (form IN ('alert', 'digest')),
    tenant          TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'failed', 'folded', 'suppressed')),
    slot_us         BIGINT NOT NULL,
    queued_us       BIGINT NOT NULL,
    attempts        BIGINT NOT NULL,
    next_us         BIGINT NOT NULL,
    leased_until_us BIGINT NOT NULL,
    last_error      TEXT,
    folded_into     TEXT,
    done_us         BIGINT,
    PRIMARY KEY (message, channel)
);
CREATE INDEX notifier_outbox_due ON notifier_outbox (channel, state, next_us);
CREATE INDEX notifier_outbox_slots ON notifier_outbox (channel, tenant, slot_us);
CREATE INDEX notifier_outbox_folded ON notifier_outbox (channel, folded_into);
CREATE INDEX notifier_outbox_queued ON notifier_outbox (queued_us);
