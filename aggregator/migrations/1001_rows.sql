-- Usage per minute and combination of dimensions, as weir.rollups.v1 has it: absolute, the newest origin wins. An
-- absent dimension is empty. `minute_s` is the minute's start in seconds since 1970. Money is split into whole dollars
-- and the pico-dollars that are left, so that SQL sums it without overflow. `units` is a JSON object; `seconds` a JSON
-- array of the minute's seconds with anything in them: [second, requests, input_tokens, output_tokens, "cost",
-- failures, violations, units].
CREATE TABLE aggregator_rollups (
    tenant        TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    route         TEXT NOT NULL,
    provider      TEXT NOT NULL,
    model         TEXT NOT NULL,
    account       TEXT NOT NULL,
    source        TEXT NOT NULL,
    stream        TEXT NOT NULL,
    minute_s      BIGINT NOT NULL,
    events        BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    input_tokens  BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_hi       BIGINT NOT NULL,
    cost_lo       BIGINT NOT NULL,
    failures      BIGINT NOT NULL,
    violations    BIGINT NOT NULL,
    units         TEXT NOT NULL,
    seconds       TEXT NOT NULL,
    origin_offset BIGINT NOT NULL,
    PRIMARY KEY (tenant, minute_s, key_id, user_id, route, provider, model, account, source, stream)
);
CREATE INDEX aggregator_rollups_minute ON aggregator_rollups (minute_s);

-- Crossings as published; `record` is the whole as JSON. Times are microseconds since 1970.
CREATE TABLE aggregator_signals (
    id            TEXT NOT NULL PRIMARY KEY,
    subject       TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    limit_name    TEXT NOT NULL,
    level         TEXT NOT NULL,
    direction     TEXT NOT NULL,
    at_us         BIGINT NOT NULL,
    origin_offset BIGINT NOT NULL,
    record        TEXT NOT NULL
);
CREATE INDEX aggregator_signals_subject ON aggregator_signals (subject, at_us, id);
CREATE INDEX aggregator_signals_at ON aggregator_signals (at_us, id);

-- Reports of violations by group: the newest count wins.
CREATE TABLE aggregator_csp_groups (
    tenant        TEXT NOT NULL,
    directive     TEXT NOT NULL,
    blocked_host  TEXT NOT NULL,
    document_uri  TEXT NOT NULL,
    first_us      BIGINT NOT NULL,
    count         BIGINT NOT NULL,
    origin_offset BIGINT NOT NULL,
    PRIMARY KEY (tenant, directive, blocked_host)
);

-- Requests that gateways refused; `record` is the whole as JSON.
CREATE TABLE aggregator_refusals (
    request_id TEXT NOT NULL,
    gateway    TEXT NOT NULL,
    subject    TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    at_us      BIGINT NOT NULL,
    record     TEXT NOT NULL,
    PRIMARY KEY (request_id, gateway)
);
CREATE INDEX aggregator_refusals_at ON aggregator_refusals (at_us, request_id);
CREATE INDEX aggregator_refusals_tenant ON aggregator_refusals (tenant, at_us, request_id);
