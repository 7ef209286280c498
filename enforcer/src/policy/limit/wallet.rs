//! What is different of a limit that is a wallet.

use schemas::policy::{Level, Meter, Mode, Window, percent_of_name};
use schemas::subject::Pattern;

use super::super::amount::amount;
use super::super::reader::{Reader, Table};

/// The least that is to be left; zero where nothing is said of it.
pub(super) fn keep(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    meter: Option<&Meter>,
    window: Option<Window>,
) -> Option<i128> {
    let Some(value) = table.get("keep") else {
        return Some(0);
    };
    if window? != Window::Wallet {
        reader.say(
            value.at,
            "`keep` is what is to be left in a wallet: leave it out, or write `window = \"wallet\"`",
        );
        return None;
    }
    let read = amount(meter?, "keep", &value);
    read.map_err(|error| reader.say(value.at, error)).ok()
}

/// What is left of `hard` to spend when `keep` is to be left.
pub(super) fn to_spend(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    hard: i128,
    keep: i128,
) -> Option<i128> {
    let spendable = hard - keep;
    if spendable <= 0 {
        let at = table.get("keep").map_or(table.at, |value| value.at);
        reader.say(
            at,
            "`keep` lies below `hard`: what a wallet starts with is more than what is to be left in it",
        );
        return None;
    }
    Some(spendable)
}

/// A soft level of a wallet that is an amount is one that is left.
pub(super) fn from_the_end(levels: &mut Vec<Level>, hard: i128) {
    for level in levels.iter_mut() {
        if percent_of_name(&level.name).is_none() {
            level.threshold = hard - level.threshold;
        }
    }
    levels.sort_by_key(|level| level.threshold);
    levels.dedup_by_key(|level| level.threshold);
}

/// Says what cannot be of a wallet.
pub(super) fn refuse_what_cannot_be(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    (pattern, window, mode): (Option<&Pattern>, Option<Window>, Option<Mode>),
) {
    if window != Some(Window::Wallet) {
        return;
    }
    let at = |field: &str| table.get(field).map_or(table.at, |value| value.at);
    if pattern.is_some_and(Pattern::is_wider_than_tenant) {
        let text = "a wallet is a tenant's, or a user's or key's of one: begin with `tenant/`";
        reader.say(at("subject"), text);
    }
    if mode == Some(Mode::Strict) {
        let text =
            "nothing is reserved of a wallet: use `block`, which refuses once nothing is left";
        reader.say(at("mode"), text);
    }
}
