-- What stood for each subject and why, as weir.decisions.v1 told it. Times are microseconds since 1970.
-- One row is one decision from when it was first said (`seq`, `issued_us`) until it was lifted or another took its
-- place (`lifted_us`); saying it again only moves `said_seq`. `body` is what it says, as JSON. `tenant` is the path of
-- the tenant's subject, empty for scopes wider than a tenant. `log_offset` is the first record's place in its partition.
CREATE TABLE enforcer_decisions (
    subject    TEXT NOT NULL,
    seq        BIGINT NOT NULL,
    said_seq   BIGINT NOT NULL,
    id         TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    issued_us  BIGINT NOT NULL,
    until_us   BIGINT,
    lifted_us  BIGINT,
    log_offset BIGINT NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (subject, seq)
);
CREATE INDEX enforcer_decisions_id ON enforcer_decisions (id, seq);
CREATE INDEX enforcer_decisions_newest ON enforcer_decisions (seq);
CREATE INDEX enforcer_decisions_standing ON enforcer_decisions (lifted_us, seq);
