//! What the demo shows, as text. Pure: a state in, lines out.

use std::fmt::Write as _;

use super::watch::{Bar, State};

/// Cells of a full bar.
const BAR_CELLS: u64 = 30;
/// Lines kept for what comes and goes, so that the view does not jump.
const STANDING_LINES: usize = 6;
const ALERT_LINES: usize = 5;

/// Where to ask, and with what; good for this demo only.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) data: String,
    pub(super) management: String,
    pub(super) log: String,
    pub(super) operator_token: String,
    pub(super) ingest_key: String,
}

/// One frame. `colour`: for a terminal.
pub(super) fn frame(state: &State, addresses: &Addresses, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    let totals = &state.totals;
    line(
        &mut text,
        &paint.bold("weir demo: a real LLM trace, many times faster than life"),
    );
    line(&mut text, "");
    line(
        &mut text,
        &format!(
            "counted   {} events · {} tokens · {} USD · late {} · duplicate {} · unreadable {}",
            thousands(state.counted),
            thousands(state.tokens),
            if state.cost_usd.is_empty() {
                "0"
            } else {
                &state.cost_usd
            },
            state.late,
            state.duplicate,
            state.dead,
        ),
    );
    let admitted = paint.green(&format!("{} admitted", thousands(totals.admitted)));
    let refused = paint.red(&format!("{} refused", thousands(totals.refused())));
    line(
        &mut text,
        &format!("calls     {admitted} · {refused}{}", refusals(state)),
    );
    line(
        &mut text,
        &format!(
            "sign-ins  {} tried on one account, {} stopped",
            totals.sign_ins_tried, totals.sign_ins_refused
        ),
    );
    line(&mut text, "");
    line(&mut text, &paint.bold("near a limit"));
    for bar in &state.bars {
        line(&mut text, &format!("  {}", draw(bar, &paint)));
    }
    line(&mut text, "");
    line(&mut text, &paint.bold("refused now, and why"));
    for at in 0..STANDING_LINES {
        let standing = state.standing.get(at).map(|d| {
            let verdict = paint.red(&format!("{} {}", d.verdict, d.status));
            format!(
                "  {:<34} {verdict}  {}, again in {} s",
                d.subject, d.limit, d.retry_after
            )
        });
        line(&mut text, &standing.unwrap_or_default());
    }
    alerts(&mut text, state, &paint);
    browsers(&mut text, state, &paint);
    if totals.finished {
        try_it(&mut text, addresses, &paint);
    }
    text
}

/// Commands to copy, while everything is still up.
fn try_it(text: &mut String, addresses: &Addresses, paint: &Paint) {
    let Addresses {
        data,
        management,
        log,
        operator_token,
        ingest_key,
    } = addresses;
    line(text, "");
    line(
        text,
        &paint.bold("the trace is played; try it yourself, then end with Ctrl-C"),
    );
    line(
        text,
        &format!("  export TOKEN={operator_token} KEY={ingest_key}"),
    );
    for path in [
        "/v1/decisions",
        "/v1/limits?subject=tenant/tenant-00",
        "/v1/alerts",
    ] {
        line(
            text,
            &format!("  curl -H \"Authorization: Bearer $TOKEN\" 'http://{management}{path}'"),
        );
    }
    let check = format!("http://{data}/v1/check");
    let body = r#"{"tenant":"tenant-00","key":"key-00-1"}"#;
    let json = "-H 'content-type: application/json'";
    line(
        text,
        &format!("  curl -H \"Authorization: Bearer $KEY\" {json} -d '{body}' {check}"),
    );
    line(
        text,
        &format!("  kcat -b {log} -t weir.decisions.v1 -C -e -K ' '"),
    );
}

fn alerts(text: &mut String, state: &State, paint: &Paint) {
    let heading = format!("alerts that arrived by webhook: {}", state.alerts.count);
    line(text, &paint.bold(&heading));
    let newest = state.alerts.titles.iter().rev();
    let mut shown: Vec<_> = newest
        .take(ALERT_LINES)
        .map(|title| format!("  {title}"))
        .collect();
    shown.resize(ALERT_LINES, String::new());
    for title in &shown {
        line(text, title);
    }
}

fn browsers(text: &mut String, state: &State, paint: &Paint) {
    line(text, &paint.bold("browsers report"));
    for group in &state.groups {
        line(
            text,
            &format!(
                "  {} blocked {} × {}",
                group.directive, group.blocked_host, group.count
            ),
        );
    }
}

/// Which limits refused how many calls, the most first.
fn refusals(state: &State) -> String {
    let mut by_limit: Vec<(&str, u64)> = Vec::new();
    for ((_, limit), count) in &state.totals.refused {
        match by_limit.iter_mut().find(|(name, _)| name == limit) {
            Some((_, sum)) => *sum += count,
            None => by_limit.push((limit, *count)),
        }
    }
    by_limit.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let parts: Vec<_> = by_limit
        .iter()
        .map(|(limit, count)| format!("{limit} {count}"))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

fn draw(bar: &Bar, paint: &Paint) -> String {
    let max = bar.max.max(1);
    let cells = (bar.used.min(max) * BAR_CELLS / max) as usize;
    let percent = bar.used.saturating_mul(100) / max;
    let blocks = "█".repeat(cells) + &"░".repeat(BAR_CELLS as usize - cells);
    let blocks = match percent {
        100.. => paint.red(&blocks),
        80.. => paint.yellow(&blocks),
        _ => paint.green(&blocks),
    };
    format!(
        "{:<18} {:<12} {blocks} {percent:>4} %  {} of {}",
        bar.subject,
        bar.limit,
        thousands(bar.used),
        thousands(bar.max)
    )
}

/// The last words: what happened, and what to try next.
pub(super) fn summary(state: &State, addresses: &Addresses) -> String {
    let totals = &state.totals;
    let first = totals.first_refusal.map_or_else(
        || "no call was refused".to_owned(),
        |after| format!("the first refusal came after {:.1} s", after.as_secs_f64()),
    );
    let mut text = String::new();
    line(&mut text, "");
    line(
        &mut text,
        &format!(
            "summary: {} calls admitted, {} refused ({first}); {} of {} tries on one account stopped; \
             {} events counted, {} late, {} duplicate, {} unreadable; {} alerts arrived",
            thousands(totals.admitted),
            thousands(totals.refused()),
            totals.sign_ins_refused,
            totals.sign_ins_tried,
            thousands(state.counted),
            state.late,
            state.duplicate,
            state.dead,
            state.alerts.count,
        ),
    );
    line(
        &mut text,
        &format!(
            "it listened on {} (data), {} (management) and {} (log); run your own: \
             weir up --data ./weir-data --policy policy.toml",
            addresses.data, addresses.management, addresses.log
        ),
    );
    text
}

/// Digits in groups of three.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn line(text: &mut String, content: &str) {
    let written = writeln!(text, "{content}");
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

/// ANSI colours, where there is a terminal.
struct Paint(bool);

impl Paint {
    fn with(&self, code: u8, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(&self, text: &str) -> String {
        self.with(1, text)
    }

    fn red(&self, text: &str) -> String {
        self.with(31, text)
    }

    fn green(&self, text: &str) -> String {
        self.with(32, text)
    }

    fn yellow(&self, text: &str) -> String {
        self.with(33, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_digits() {
        let check = |number, text: &str| assert_eq!(thousands(number), text);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(1_234_567, "1,234,567");
    }

    #[test]
    fn a_bar_is_as_full_as_its_limit() {
        let bar = |used| Bar {
            subject: "s".into(),
            limit: "l".into(),
            used,
            max: 300,
        };
        let full = |used| draw(&bar(used), &Paint(false)).matches('█').count();
        assert_eq!(
            [full(0), full(150), full(300), full(10_000)],
            [0, 15, 30, 30]
        );
        assert!(draw(&bar(310), &Paint(false)).contains(" 103 %"));
        assert!(draw(&Bar { max: 0, ..bar(5) }, &Paint(true)).contains("500 %"));
    }

    fn addresses() -> Addresses {
        Addresses {
            data: "127.0.0.1:1".into(),
            management: "127.0.0.1:2".into(),
            log: "127.0.0.1:3".into(),
            operator_token: "token".into(),
            ingest_key: "key".into(),
        }
    }

    #[test]
    fn says_what_to_try_when_the_trace_is_played() {
        let mut state = State::default();
        let asks = |state: &State| frame(state, &addresses(), false).contains("curl -H");
        assert!(!asks(&state));
        state.totals.finished = true;
        assert!(asks(&state));
    }

    #[test]
    fn an_empty_state_has_a_frame_without_colours() {
        let text = frame(&State::default(), &addresses(), false);
        assert!(
            text.contains("0 admitted") && !text.contains('\x1b'),
            "{text}"
        );
    }
}
