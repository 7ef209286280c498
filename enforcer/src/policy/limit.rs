//! One `[[limit]]`.

mod concurrent;
mod wallet;

use schemas::policy::{HARD, Level, Limit, Meter, MeterError, Mode, Stale, Stream, Window};
use schemas::subject::{Dimension, Pattern};

use super::amount::{amount, soft_level};
use super::fields::LIMIT;
use super::nearest::{did_you_mean, nearest};
use super::reader::{Reader, Table};
use super::sets;

pub(super) use concurrent::{NO_SOFT, ONLY_STRICT};

const METERS: [&str; 7] = [
    "requests",
    "input_tokens",
    "output_tokens",
    "tokens",
    "cost",
    "failures",
    "violations",
];

pub(super) const MODES: [(&str, Mode); 3] = [
    ("open", Mode::Open),
    ("block", Mode::Block),
    ("strict", Mode::Strict),
];

/// What could be read of one limit. Its name and tier are checked by the caller, who knows the others.
pub(super) struct Read {
    /// Where the limit begins.
    pub(super) at: usize,
    pub(super) name: Option<(String, usize)>,
    pub(super) tier: Option<(String, usize)>,
    /// Absent when any field is wrong.
    pub(super) limit: Option<Limit>,
}

/// Reads the limit in `table`, whose subject may name `sets`. `tier` is set for one that stands under `[tier.NAME]`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    (tier, sets): (Option<&str>, &sets::Read),
) -> Read {
    reader.refuse_unknown(table, &LIMIT.names(), LIMIT.what);
    let name = reader.required(table, "limit", ("name", "name = \"tokens-a-minute\""));
    let example = ("subject", "subject = \"tenant/*\"");
    let pattern = reader
        .required(table, "limit", example)
        .and_then(|subject| sets::pattern(reader, subject, sets));
    let meter = meter(reader, table);
    let window = window(reader, table);
    let burst = burst(reader, table, meter.as_ref(), window);
    let keep = wallet::keep(reader, table, meter.as_ref(), window);
    let hard = hard(reader, table, meter.as_ref(), burst);
    let spendable = spendable(reader, table, hard, keep);
    let levels = levels(reader, table, meter.as_ref(), (window, spendable));
    let mode = mode(reader, table, meter.as_ref(), window);
    wallet::refuse_what_cannot_be(reader, table, (pattern.as_ref(), window, mode));
    concurrent::refuse_what_cannot_be(reader, table, (meter.as_ref(), window, mode));
    let stale = stale(reader, table);
    let tier = own_tier(reader, table, tier);
    let status = status(reader, table);
    let headers = reader.flag(table, "headers", true);
    if let (Some(pattern), Some(meter)) = (&pattern, &meter) {
        refuse_pattern_without_events(reader, table, pattern, meter);
    }
    if let (Some((_, at)), Some(pattern)) = (&tier, &pattern)
        && pattern.is_wider_than_tenant()
    {
        reader.say(
            *at,
            format!("a limit of a tier begins with `tenant/`; `{pattern}` is wider than a tenant"),
        );
    }
    let whole = || {
        Some(Limit {
            name: name?.0.to_owned(),
            pattern: pattern?,
            meter: meter?,
            window: window?,
            levels: levels?,
            keep: keep?,
            mode: mode?,
            stale: stale?,
            tier: tier.as_ref().map(|(tier, _)| tier.clone()),
            replaced_in: Vec::new(),
            status: status?,
            headers: headers?,
        })
    };
    Read {
        at: table.at,
        limit: whole(),
        name: name.map(|(name, at)| (name.to_owned(), at)),
        tier,
    }
}

/// A pattern that asks for what no event of the meter's kind carries would count nothing, silently.
fn refuse_pattern_without_events(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    pattern: &Pattern,
    meter: &Meter,
) {
    let (events, carried): (_, &[Dimension]) = match meter.stream() {
        Stream::Auth => (
            "sign-ins",
            &[Dimension::Tenant, Dimension::Account, Dimension::Source],
        ),
        Stream::Csp => ("CSP reports", &[Dimension::Tenant]),
        Stream::Usage => return,
    };
    let missing = pattern.dimensions().find(|own| !carried.contains(own));
    if let (Some(missing), Some(subject)) = (missing, table.get("subject")) {
        let (missing, meter) = (missing.name(), meter.name());
        let carried: Vec<&str> = carried.iter().map(|own| own.name()).collect();
        let carried = carried.join(", ");
        let text = format!(
            "subject `{pattern}` matches nothing: `{meter}` are counted from {events}, which carry no {missing}, only \
             {carried}"
        );
        reader.say(subject.at, text);
    }
}

/// A name that is all but a known meter's is taken for a slip and refused: as a unit of the user's own it would
/// count nothing, silently.
fn meter(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Meter> {
    let (name, at) = reader.required(table, "limit", ("meter", "meter = \"tokens\""))?;
    let read: Result<Meter, MeterError> = name.parse();
    let known = nearest(name, METERS.into_iter());
    match (read, known) {
        (Ok(Meter::Unit(_)), Some(known)) => {
            let own = "a unit of your own needs a name less like it";
            reader.say(
                at,
                format!("`{name}` is no meter; did you mean `{known}`? {own}"),
            );
            None
        }
        (Ok(meter), _) => Some(meter),
        (Err(error), _) => {
            let hint = did_you_mean(name, METERS.into_iter());
            reader.say(at, format!("{error}{hint}"));
            None
        }
    }
}

fn window(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Window> {
    let (text, at) = reader.required(table, "limit", ("window", "window = \"sliding 60s\""))?;
    match text.parse() {
        Ok(window) => Some(window),
        Err(error) => {
            reader.say(at, error.to_string());
            None
        }
    }
}

/// The burst of a limit whose window is a bucket: how much it holds.
fn burst(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    meter: Option<&Meter>,
    window: Option<Window>,
) -> Option<i128> {
    let Window::Bucket { burst, .. } = window? else {
        return None;
    };
    if meter == Some(&Meter::Cost) {
        let at = table.get("window").map_or(table.at, |value| value.at);
        reader.say(
            at,
            "a bucket counts whole numbers, not money: use a sliding or calendar window",
        );
    }
    Some(burst.into())
}

/// The soft levels, lowest first, and the hard one. Without a meter nobody knows the unit, so nothing is said of
/// numbers then.
fn levels(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    meter: Option<&Meter>,
    (window, hard): (Option<Window>, Option<i128>),
) -> Option<Vec<Level>> {
    let hard = hard?;
    let mut levels = soft_levels(reader, table, meter?, hard)?;
    if window? == Window::Wallet {
        wallet::from_the_end(&mut levels, hard);
    }
    levels.push(Level {
        name: HARD.to_owned(),
        threshold: hard,
    });
    Some(levels)
}

/// The hard number without what is to be left.
fn spendable(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    hard: Option<i128>,
    keep: Option<i128>,
) -> Option<i128> {
    match (hard?, keep?) {
        (hard, 0) => Some(hard),
        (hard, keep) => wallet::to_spend(reader, table, hard, keep),
    }
}

/// The number from which on calls are refused; a bucket's is its burst unless a smaller one is given.
fn hard(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    meter: Option<&Meter>,
    burst: Option<i128>,
) -> Option<i128> {
    let Some(value) = table.get("hard") else {
        if burst.is_none() {
            let example = match meter {
                Some(Meter::Cost) => "hard = \"20 USD\"",
                _ => "hard = 60000",
            };
            let text = format!(
                "this limit has no `hard`, the number from which on calls are refused: write `{example}`"
            );
            reader.say(table.at, text);
        }
        return burst;
    };
    let read = amount(meter?, "hard", &value).and_then(|hard| match burst {
        Some(burst) if burst < hard => Err(format!(
            "`hard` is above the {burst} that the bucket holds: leave it out, or raise the burst"
        )),
        _ => Ok(hard),
    });
    read.map_err(|error| reader.say(value.at, error)).ok()
}

pub(super) fn soft_levels(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    meter: &Meter,
    hard: i128,
) -> Option<Vec<Level>> {
    let Some(value) = table.get("soft") else {
        return Some(Vec::new());
    };
    let Some(list) = value.list() else {
        reader.say(value.at, "`soft` is a list: write `soft = [\"80%\"]`");
        return None;
    };
    let mut levels: Vec<Level> = Vec::new();
    let mut good = true;
    for value in list {
        match soft_level(meter, hard, &value) {
            Ok(level) => match levels.iter().find(|l| l.threshold == level.threshold) {
                Some(same) => {
                    let (name, same) = (&level.name, &same.name);
                    let text = format!("`{name}` is the same number as `{same}`: leave one out");
                    reader.say(value.at, text);
                    good = false;
                }
                None => levels.push(level),
            },
            Err(error) => {
                reader.say(value.at, error);
                good = false;
            }
        }
    }
    levels.sort_by_key(|level| level.threshold);
    good.then_some(levels)
}

fn mode(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    meter: Option<&Meter>,
    window: Option<Window>,
) -> Option<Mode> {
    if table.get("mode").is_none() {
        return Some(concurrent::usual_mode(window));
    }
    let mode = reader.choice(table, "mode", &MODES)?;
    let reserved = meter.is_none_or(|meter| meter.stream() == Stream::Usage);
    if mode == Mode::Strict && !reserved {
        let at = table.get("mode").map_or(table.at, |value| value.at);
        let text = "nobody reserves what is counted from sign-ins or browsers: use `block`, which refuses after the fact";
        reader.say(at, text);
        return None;
    }
    Some(mode)
}

fn stale(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Stale> {
    if table.get("stale").is_none() {
        return Some(Stale::default());
    }
    let choices = [
        ("last_known", Stale::LastKnown),
        ("open", Stale::Open),
        ("closed", Stale::Closed),
    ];
    reader.choice(table, "stale", &choices)
}

fn own_tier(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    under: Option<&str>,
) -> Option<(String, usize)> {
    let written = reader.text(table, "tier");
    match (under, written) {
        (Some(under), Some((tier, at))) if tier != under => {
            let text = format!("this limit stands under `[tier.{under}]`: leave `tier` out");
            reader.say(at, text);
            Some((under.to_owned(), at))
        }
        (Some(under), _) => Some((under.to_owned(), table.at)),
        (None, written) => written.map(|(tier, at)| (tier.to_owned(), at)),
    }
}

/// `Some(None)` where the limit names no status.
fn status(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Option<u16>> {
    let Some(value) = table.get("status") else {
        return Some(None);
    };
    let status = value
        .integer()
        .and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (400..600).contains(status));
    if status.is_none() {
        reader.say(
            value.at,
            "`status` is the HTTP status of a refusal: a whole number from 400 to 599",
        );
    }
    status.map(Some)
}
