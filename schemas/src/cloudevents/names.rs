//! Names that are nearly those of a field. A spelling must not lose tokens, money, or whom they are counted for.

/// Names as others spell them (without `_` and `-`, in lower case), and what to write instead.
const MEANT: &[(&[&str], &str)] = &[
    (
        &[
            "inputtokens",
            "prompttokens",
            "tokensin",
            "tokensinput",
            "intokens",
            "inputtokencount",
            "prompttokencount",
        ],
        "input_tokens",
    ),
    (
        &[
            "outputtokens",
            "completiontokens",
            "tokensout",
            "tokensoutput",
            "outtokens",
            "outputtokencount",
            "candidatestokencount",
        ],
        "output_tokens",
    ),
    (
        &["tokens", "totaltokens", "tokencount", "totaltokencount"],
        "input_tokens and output_tokens",
    ),
    (
        &[
            "cost",
            "costs",
            "costusd",
            "usd",
            "price",
            "priceusd",
            "spend",
            "totalcost",
            "totalcostusd",
            "responsecost",
        ],
        "cost_usd (US dollars)",
    ),
    (&["requests", "requestcount", "numrequests"], "requests"),
    (&["units", "unit"], "units"),
];

const WHOM: &[(&[&str], &str)] = &[
    (
        &["tenant", "tenantid"],
        "the attribute `subject`, outside of data",
    ),
    (&["key", "keyid", "apikey", "apikeyid"], "key"),
    (&["user", "userid", "enduser", "enduserid"], "user"),
    (&["route", "endpoint"], "route"),
    (&["model", "modelname", "modelid"], "model"),
    (&["provider", "providername"], "provider"),
    (
        &["source", "sourceip", "clientip", "ip", "ipaddress"],
        "source",
    ),
];

fn find(name: &str, table: &[(&[&str], &'static str)]) -> Option<&'static str> {
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let row = table.iter().find(|(names, _)| names.contains(&&*plain));
    row.map(|(_, meant)| *meant)
}

/// What `name`, which is no field of usage's data, is to be called.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    find(name, MEANT).or_else(|| find(name, WHOM))
}

/// Whether `name`, found beside the attributes, counts something and so belongs into data.
pub(super) fn counts(name: &str) -> bool {
    find(name, MEANT).is_some()
}
