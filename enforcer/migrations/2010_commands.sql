-- What people ordered, as weir.commands.v1 told it: who did what, when and why. Times are microseconds since 1970.
-- `body` is what the kind takes, as JSON. `tenant` is the path of the tenant's subject, empty for scopes wider than a
-- tenant. Of two records with one id the first counts: the second was sent again by one who had no answer.
CREATE TABLE enforcer_commands (
    id      TEXT NOT NULL PRIMARY KEY,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    tenant  TEXT NOT NULL,
    at_us   BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    body    TEXT NOT NULL
);
CREATE INDEX enforcer_commands_newest ON enforcer_commands (at_us, id);
