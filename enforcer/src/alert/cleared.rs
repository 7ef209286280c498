//! What is told of a limit that was cleared.

use super::{Alert, AlertKind, id, numbers};
use crate::decision::Cleared;

/// The alert that what was counted counts no more: with what it was and is, by which command and why.
pub(crate) fn cleared(cleared: &Cleared) -> Alert {
    let Cleared {
        subject,
        limit,
        window,
        at,
        command,
        reason,
        ..
    } = cleared;
    let before = numbers::amounts(&cleared.meter, cleared.before, cleared.max);
    let after = numbers::amount(&cleared.meter, cleared.after);
    let title =
        format!("{subject}: {limit} was cleared ({before} in {window} before, {after} now)");
    Alert {
        id: id("cleared", &cleared.id),
        kind: AlertKind::Cleared,
        subject: subject.clone(),
        body: format!(
            "{title}, at {at}.\nReason: {reason}\nBy command {command}. What was counted before it counts no more; other \
             limits keep theirs."
        ),
        title,
        at: *at,
        limit: Some(limit.clone()),
        level: None,
        used: Some(cleared.before),
        max: Some(cleared.max),
        decision: None,
        until: None,
    }
}

#[cfg(test)]
mod tests {
    use schemas::policy::{Meter, Window};
    use schemas::subject::Subject;
    use schemas::time::Timestamp;

    use super::*;

    #[test]
    fn says_what_was_counted_and_who_cleared_it() {
        let alert = super::cleared(&Cleared {
            id: "x1".to_owned(),
            subject: Subject::tenant("acme"),
            limit: "a-minute".to_owned(),
            meter: Meter::Tokens,
            window: Window::Sliding { seconds: 60 },
            at: Timestamp::from_seconds(60),
            before: 61_200,
            after: 0,
            max: 60_000,
            command: "c-5".to_owned(),
            reason: "false alarm".to_owned(),
        });
        let title = "tenant/acme: a-minute was cleared (61,200 of 60,000 tokens in sliding 60s before, 0 tokens now)";
        assert_eq!(alert.title, title);
        let body = "Reason: false alarm\nBy command c-5. What was counted before it counts no more; other limits keep theirs.";
        let told = format!("{title}, at 1970-01-01T00:01:00Z.\n{body}");
        assert_eq!(alert.body, told);
        assert_eq!((alert.used, alert.max), (Some(61_200), Some(60_000)));
    }
}
