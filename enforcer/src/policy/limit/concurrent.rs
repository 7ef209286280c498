//! What is different of a limit on what is in flight: gateways alone know of it, and only of what is reserved.

use schemas::policy::{Meter, Mode, Window};

use super::super::reader::{Reader, Table};

/// What is said of another mode than `strict`.
pub(in crate::policy) const ONLY_STRICT: &str = "what is in flight is known only of what is reserved, so the mode is `strict`: leave `mode` out";

/// What is said of soft levels.
pub(in crate::policy) const NO_SOFT: &str = "the log does not tell what is in flight, so nobody is told of it before `hard`: leave `soft` out";

/// The mode of a limit that says nothing of it.
pub(super) fn usual_mode(window: Option<Window>) -> Mode {
    match window {
        Some(Window::Concurrent) => Mode::Strict,
        _ => Mode::Block,
    }
}

/// Says what cannot be of what is in flight.
pub(super) fn refuse_what_cannot_be(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    (meter, window, mode): (Option<&Meter>, Option<Window>, Option<Mode>),
) {
    if window != Some(Window::Concurrent) {
        return;
    }
    let at = |field: &str| table.get(field).map_or(table.at, |value| value.at);
    if meter.is_some_and(|meter| *meter != Meter::Requests) {
        let text = "what is in flight are requests: write `meter = \"requests\"`";
        reader.say(at("meter"), text);
    }
    if table.get("soft").is_some() {
        reader.say(at("soft"), NO_SOFT);
    }
    if mode.is_some_and(|mode| mode != Mode::Strict) {
        reader.say(at("mode"), ONLY_STRICT);
    }
}
