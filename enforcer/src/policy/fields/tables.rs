//! The tables of a policy, field by field.

use schemas::policy::WEIGHT_MAX;

use super::{Field, Kind, Reference};

pub(in crate::policy) const MODES: [&str; 3] = ["open", "block", "strict"];
const SETS_OF: [&str; 9] = [
    "key",
    "user",
    "account",
    "source",
    "fingerprint",
    "action",
    "provider",
    "model",
    "route",
];
pub(in crate::policy) const STALES: [&str; 3] = ["last_known", "open", "closed"];

const WINDOW: &str = "^\\s*(sliding\\s+[0-9]+[smhd]|bucket\\s+[0-9]+/[0-9]*[smhd]\\s+burst\\s+[0-9]+|\
                      calendar\\s+(day|week|week\\s+from\\s+sunday|month)|wallet|concurrent)\\s*$";

pub(in crate::policy) static LIMIT: Reference = Reference {
    what: "a limit",
    heading: "Fields of a limit",
    required: &["name", "subject", "meter", "window"],
    fields: &[
        Field {
            name: "name",
            what: "how alerts, headers and queries call it",
            values: "1 to 64 of a-z, A-Z, 0-9, `-`, `_`, `.`; unique among the general limits, and within a tier",
            example: "name = \"tokens-a-minute\"",
            kind: Kind::Name,
        },
        Field {
            name: "subject",
            what: "what it counts apart",
            values: "a path of dimensions: `platform`; `tenant/*`; `tenant/acme`; `tenant/*/key/*`, `…/user/*`, \
                     `…/account/*`, `…/source/*`, `…/model/*`, `…/route/POST /v1/*`; combined in this order: tenant, \
                     key, user, account, source, fingerprint, action, provider, model, route. `*` is any id, each on \
                     its own; an id ending in `*` is a prefix; `{slow}` is all ids of that set together",
            example: "subject = \"tenant/*/user/*\"",
            kind: Kind::Text,
        },
        Field {
            name: "meter",
            what: "what it sums",
            values: "`requests`, `input_tokens`, `output_tokens`, `tokens`, `cost`, `failures` (sign-ins), \
                     `violations` (CSP reports), or the name of a unit that events carry",
            example: "meter = \"input_tokens\"",
            kind: Kind::Pattern("^[a-z][a-z0-9_]{0,63}$"),
        },
        Field {
            name: "window",
            what: "over which time",
            values: "`sliding 60s` (1s to 30d), `bucket 10/s burst 50`, `calendar day`, `calendar week` (from Monday), \
                     `calendar week from sunday`, `calendar month`, `wallet` (for ever: `hard` is what was paid in), \
                     `concurrent` (what is in flight; only of `requests`)",
            example: "window = \"calendar week from sunday\"",
            kind: Kind::Pattern(WINDOW),
        },
        Field {
            name: "soft",
            what: "levels that are told before it",
            values: "a list of `\"80%\"` or numbers, rising, below `hard`; of a wallet, numbers are what is left",
            example: "soft = [\"50%\", 50000]",
            kind: Kind::SoftLevels,
        },
        Field {
            name: "hard",
            what: "where refusing begins, inclusive",
            values: "a whole number; for `cost` an amount such as `\"20 USD\"` or `\"0.50 USD\"`; of a bucket its burst \
                     unless it says less; of a wallet what each starts with",
            example: "hard = 60000",
            kind: Kind::Amount,
        },
        Field {
            name: "keep",
            what: "the least that is to be left in a wallet",
            values: "as `hard`, and below it; nothing when left out",
            example: "window = \"wallet\"\nkeep = 1000",
            kind: Kind::Amount,
        },
        Field {
            name: "mode",
            what: "what happens at `hard`",
            values: "`open` records, `block` (default) refuses after the fact, `strict` reserves before (`docs/modes.md`); \
                     `concurrent` is always `strict`",
            example: "mode = \"open\"",
            kind: Kind::Choice(&MODES),
        },
        Field {
            name: "stale",
            what: "what a gateway does when its view of the log is old",
            values: "`last_known` (default) obeys what it knows, `open` admits, `closed` refuses",
            example: "stale = \"closed\"",
            kind: Kind::Choice(&STALES),
        },
        Field {
            name: "tier",
            what: "for whose tenants it is, where it does not stand under `[tier.NAME]`",
            values: "a tier of the policy; all tenants when left out",
            example: "tier = \"pro\"",
            kind: Kind::Name,
        },
        Field {
            name: "status",
            what: "the HTTP status of the refusal",
            values: "400–599; when left out 429, of a wallet 402",
            example: "status = 402",
            kind: Kind::Whole(400, 599),
        },
        Field {
            name: "headers",
            what: "whether headers tell callers what is left of it",
            values: "`true` (default), `false`",
            example: "headers = false",
            kind: Kind::Flag,
        },
    ],
};

pub(in crate::policy) static TIER: Reference = Reference {
    what: "a tier",
    heading: "Fields of a tier",
    required: &[],
    fields: &[
        Field {
            name: "limit",
            what: "the limits of its tenants",
            values: "`[[tier.NAME.limit]]` above each; one with the name of a general limit replaces it",
            example: "[[tier.pro.limit]]\nname = \"rpm\"\nsubject = \"tenant/*\"\nmeter = \"requests\"\nwindow = \
                      \"sliding 60s\"\nhard = 600",
            kind: Kind::List(&LIMIT),
        },
        Field {
            name: "extends",
            what: "the tier whose limits it has as well, but for those whose names it has itself",
            values: "another tier of the policy, which may extend a further one",
            example: "[tier.free]\n[tier.pro]\nextends = \"free\"",
            kind: Kind::Name,
        },
    ],
};

pub(in crate::policy) static TENANT: Reference = Reference {
    what: "a tenant",
    heading: "Fields of a tenant",
    required: &[],
    fields: &[
        Field {
            name: "tier",
            what: "its tier",
            values: "a tier of the policy; `default_tier` when left out",
            example: "tier = \"pro\"",
            kind: Kind::Name,
        },
        Field {
            name: "zone",
            what: "whose midnight ends its calendar windows",
            values: "an IANA time zone; the policy's when left out",
            example: "zone = \"America/Sao_Paulo\"",
            kind: Kind::Text,
        },
    ],
};

pub(in crate::policy) static WEIGHT: Reference = Reference {
    what: "a weight",
    heading: "Fields of a weight",
    required: &["route", "requests"],
    fields: &[
        Field {
            name: "route",
            what: "the routes that it is for",
            values: "a route as it is asked about, or the start of some with `*` after it, as in a limit's subject; the \
                     first weight that takes a route rules",
            example: "route = \"POST /v1/bulk/*\"",
            kind: Kind::Text,
        },
        Field {
            name: "requests",
            what: "what one request counts as",
            values: "0 (free) to 1,000,000; routes without a weight count as 1",
            example: "requests = 20",
            kind: Kind::Whole(0, WEIGHT_MAX),
        },
    ],
};

pub(in crate::policy) static SET: Reference = Reference {
    what: "a set",
    heading: "Fields of a set",
    required: &["dimension", "ids"],
    fields: &[
        Field {
            name: "dimension",
            what: "what its ids are of",
            values: "`key`, `user`, `account`, `source`, `fingerprint`, `action`, `provider`, `model` or `route`",
            example: "dimension = \"model\"",
            kind: Kind::Choice(&SETS_OF),
        },
        Field {
            name: "ids",
            what: "what is counted together",
            values: "a list of ids, literal or ending in `*`, as in a limit's subject; 1 to 1,000",
            example: "ids = [\"slow-*\", \"opus\"]",
            kind: Kind::Texts,
        },
    ],
};

pub(in crate::policy) static OVERRIDE: Reference = Reference {
    what: "an override",
    heading: "Fields of an override",
    required: &["subject", "limit"],
    fields: &[
        Field {
            name: "subject",
            what: "whose numbers they are",
            values: "one subject for which the limit is counted, without `*`",
            example: "subject = \"tenant/acme\"",
            kind: Kind::Text,
        },
        Field {
            name: "limit",
            what: "the limit that has other numbers there",
            values: "the name of a limit, general or of the tenant's tier; not a wallet",
            example: "limit = \"tokens-a-minute\"",
            kind: Kind::Name,
        },
        Field {
            name: "hard",
            what: "where refusing begins",
            values: "as of a limit; the limit's when left out",
            example: "hard = 120000",
            kind: Kind::Amount,
        },
        Field {
            name: "soft",
            what: "levels that are told before it",
            values: "as of a limit; the limit's when left out, percentages taken of the new `hard`",
            example: "soft = [\"90%\"]",
            kind: Kind::SoftLevels,
        },
        Field {
            name: "mode",
            what: "what happens at `hard`",
            values: "as of a limit; `strict` only where the limit is strict",
            example: "mode = \"open\"",
            kind: Kind::Choice(&MODES),
        },
        Field {
            name: "reason",
            what: "why, for those who ask later",
            values: "up to 500 characters on one line",
            example: "reason = \"contract 2026-11\"",
            kind: Kind::Text,
        },
    ],
};

pub(in crate::policy) static POLICY: Reference = Reference {
    what: "a policy",
    heading: "Fields of the policy",
    required: &[],
    fields: &[
        Field {
            name: "limit",
            what: "the limits of all tenants, and of what is wider than a tenant",
            values: "`[[limit]]` above each; 1,000 in all, those of tiers included",
            example: "[[limit]]\nname = \"all\"\nsubject = \"platform\"\nmeter = \"cost\"\nwindow = \"calendar \
                      month\"\nhard = \"200 USD\"",
            kind: Kind::List(&LIMIT),
        },
        Field {
            name: "override",
            what: "other numbers of a limit for one subject",
            values: "`[[override]]` above each; of one subject and limit one",
            example: "[[limit]]\nname = \"rpm\"\nsubject = \"tenant/*\"\nmeter = \"requests\"\nwindow = \"sliding \
                      60s\"\nhard = 60\n[[override]]\nsubject = \"tenant/acme\"\nlimit = \"rpm\"\nhard = 90",
            kind: Kind::List(&OVERRIDE),
        },
        Field {
            name: "tier",
            what: "named sets of limits",
            values: "`[tier.NAME]`",
            example: "[tier.free]",
            kind: Kind::Named(&TIER),
        },
        Field {
            name: "tenant",
            what: "what holds for one tenant",
            values: "`[tenant.ID]`; an id with other characters than a-z, A-Z, 0-9, `-`, `_` in quotes",
            example: "[tenant.\"acme corp\"]",
            kind: Kind::Named(&TENANT),
        },
        Field {
            name: "set",
            what: "ids that limits count together, as one subject",
            values: "`[set.NAME]`; named in a limit's subject as `model/{NAME}`",
            example: "[set.slow]\ndimension = \"model\"\nids = [\"slow-*\", \"opus\"]\n[[limit]]\nname = \
                      \"slow\"\nsubject = \"model/{slow}\"\nmeter = \"cost\"\nwindow = \"calendar month\"\nhard = \
                      \"200 USD\"",
            kind: Kind::Named(&SET),
        },
        Field {
            name: "weight",
            what: "routes whose requests count as more than one, or as nothing",
            values: "`[[weight]]` above each; 1,000 in all",
            example: "[[weight]]\nroute = \"GET /health\"\nrequests = 0",
            kind: Kind::List(&WEIGHT),
        },
        Field {
            name: "default_tier",
            what: "the tier of tenants that are not named",
            values: "a tier of the policy; none when left out",
            example: "default_tier = \"pro\"",
            kind: Kind::Name,
        },
        Field {
            name: "zone",
            what: "whose midnight ends calendar windows, where a tenant has no zone of its own",
            values: "an IANA time zone; `UTC` when left out",
            example: "zone = \"Europe/Berlin\"",
            kind: Kind::Text,
        },
    ],
};
