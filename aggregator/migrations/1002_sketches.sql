-- What was counted with a stated error, as weir.sketches.v1 has it. `hour_s` is the hour's start in seconds since 1970.

-- How many different ids of the dimension `of_dimension` came with the id of the dimension `per_dimension` in an hour. The largest
-- count wins: it only grows, but for an id that made room for others and came back. `sketch` is base64.
CREATE TABLE aggregator_spreads (
    tenant        TEXT NOT NULL,
    of_dimension  TEXT NOT NULL,
    per_dimension TEXT NOT NULL,
    id            TEXT NOT NULL,
    hour_s        BIGINT NOT NULL,
    count         BIGINT NOT NULL,
    missed_max    BIGINT NOT NULL,
    sketch        TEXT NOT NULL,
    PRIMARY KEY (tenant, hour_s, of_dimension, per_dimension, id)
);
CREATE INDEX aggregator_spreads_hour ON aggregator_spreads (hour_s, of_dimension, per_dimension);

-- Which ids of a dimension came most in an hour; `record` is the whole as JSON. The newest origin wins.
CREATE TABLE aggregator_rankings (
    tenant        TEXT NOT NULL,
    by_dimension  TEXT NOT NULL,
    meter         TEXT NOT NULL,
    hour_s        BIGINT NOT NULL,
    origin_offset BIGINT NOT NULL,
    record        TEXT NOT NULL,
    PRIMARY KEY (tenant, hour_s, by_dimension, meter)
);
CREATE INDEX aggregator_rankings_hour ON aggregator_rankings (hour_s, by_dimension, meter);
