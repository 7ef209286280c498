-- By which record of weir.commands.v1 an entry of a wallet was obeyed: of two records with one id, the first that was.
CREATE TABLE enforcer_payments (
    id            TEXT NOT NULL PRIMARY KEY,
    log_partition INTEGER NOT NULL,
    log_offset    BIGINT NOT NULL
);
