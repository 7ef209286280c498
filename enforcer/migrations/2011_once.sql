-- By which record of weir.commands.v1 a command was obeyed that counts once: of two records with one id, the first that
-- was.
CREATE TABLE enforcer_once (
    id            TEXT NOT NULL PRIMARY KEY,
    log_partition INTEGER NOT NULL,
    log_offset    BIGINT NOT NULL
);
