//! Who hears what, and when: channels choose by tenant and kind, and hear a bounded number of messages about one
//! tenant in any window of time. What goes beyond is folded into one digest. Pure.

use std::time::Duration;

use schemas::time::Timestamp;

use crate::alert::{Alert, Kind};

/// Which tenants a channel hears about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TenantPattern {
    /// Every tenant, and what is wider than one.
    Any,
    Exact(String),
    Prefix(String),
}

impl TenantPattern {
    pub(crate) fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some("") => Self::Any,
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    fn accepts(&self, tenant: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => tenant == Some(own),
            Self::Prefix(prefix) => tenant.is_some_and(|tenant| tenant.starts_with(prefix)),
        }
    }
}

/// What one channel listens to.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) channel: String,
    pub(crate) tenants: Vec<TenantPattern>,
    pub(crate) kinds: Vec<Kind>,
    /// Messages about one tenant in any span of [`Rules::flood_window`], digests included. At least 1.
    pub(crate) messages_max: usize,
}

impl Listener {
    pub(crate) fn hears(&self, alert: &Alert) -> bool {
        let tenant = alert.tenant.as_deref();
        self.kinds.contains(&alert.kind) && self.tenants.iter().any(|own| own.accepts(tenant))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) listeners: Vec<Listener>,
    /// An alert older than this, by event time, is recorded and not sent.
    pub(crate) alert_age_max: Duration,
    pub(crate) flood_window: Duration,
}

/// What a channel has heard and will hear about one tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// When its newest messages were or are due, oldest first. At least those within the flood window.
    pub(crate) slots: Vec<Timestamp>,
    /// A digest that is not yet due and takes more.
    pub(crate) open_digest: Option<String>,
}

/// What becomes of one alert on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Send,
    /// Told as a part of a digest that waits already.
    Join {
        digest: String,
    },
    /// Told as a part of a new digest.
    Open {
        digest: String,
        due: Timestamp,
    },
    Suppress {
        reason: &'static str,
    },
}

impl Rules {
    /// `listener` hears `alert`; `standing` is what it heard so far about the alert's tenant.
    pub(crate) fn plan(
        &self,
        listener: &Listener,
        alert: &Alert,
        standing: &Standing,
        now: Timestamp,
    ) -> Plan {
        debug_assert!(listener.hears(alert));
        if self.alert_age_max < now.since(alert.at) {
            return Plan::Suppress { reason: "too old" };
        }
        if let Some(digest) = &standing.open_digest {
            let digest = digest.clone();
            return Plan::Join { digest };
        }
        match next_slot(
            &standing.slots,
            listener.messages_max,
            self.flood_window,
            now,
        ) {
            None => Plan::Send,
            Some(due) => Plan::Open {
                digest: format!("digest/{}", alert.id),
                due,
            },
        }
    }
}

/// When the next message may go: `None` for now, else the moment when the oldest message in the way leaves the window.
fn next_slot(
    slots: &[Timestamp],
    messages_max: usize,
    window: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    assert!(0 < messages_max, "a channel that may say nothing");
    debug_assert!(slots.is_sorted(), "slots come oldest first");
    let in_the_way = slots.len().checked_sub(messages_max)?;
    let free_at = slots[in_the_way].plus(window);
    (now < free_at).then_some(free_at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::subject::Subject;

    use super::*;
    use crate::alert::testing;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn listener(tenants: &[&str], kinds: &[Kind], messages_max: usize) -> Listener {
        Listener {
            channel: "ops".to_owned(),
            tenants: tenants.iter().map(|t| TenantPattern::parse(t)).collect(),
            kinds: kinds.to_vec(),
            messages_max,
        }
    }

    fn rules() -> Rules {
        Rules {
            listeners: Vec::new(),
            alert_age_max: 24 * HOUR,
            flood_window: HOUR,
        }
    }

    #[track_caller]
    fn check_hears(tenants: &[&str], tenant: Option<&str>, expected: bool) {
        let alert = Alert {
            tenant: tenant.map(str::to_owned),
            subject: tenant.map_or_else(Subject::platform, Subject::tenant),
            ..testing::alert("a", Timestamp::from_seconds(0))
        };
        assert_eq!(listener(tenants, &Kind::ALL, 1).hears(&alert), expected);
    }

    #[test]
    fn a_channel_hears_its_tenants() {
        check_hears(&["*"], Some("acme"), true);
        check_hears(&["*"], None, true);
        check_hears(&["acme"], Some("acme"), true);
        check_hears(&["acme"], Some("acme2"), false);
        check_hears(&["acme"], None, false);
        check_hears(&["acme*"], Some("acme2"), true);
        check_hears(&["acme*"], Some("ac"), false);
        check_hears(&["acme*"], None, false);
        check_hears(&["other", "acme"], Some("acme"), true);
        check_hears(&[], Some("acme"), false);
    }

    #[test]
    fn a_channel_hears_its_kinds() {
        let alert = testing::alert("a", Timestamp::from_seconds(0));
        assert!(listener(&["*"], &[Kind::Soft, Kind::Hard], 1).hears(&alert));
        assert!(!listener(&["*"], &[Kind::Soft, Kind::Lifted], 1).hears(&alert));
    }

    /// `slots` and `now` in seconds; the alert happened at `at`.
    #[track_caller]
    fn check_plan(slots: &[i64], open: Option<&str>, (at, now): (i64, i64), expected: Plan) {
        let standing = Standing {
            slots: slots.iter().copied().map(Timestamp::from_seconds).collect(),
            open_digest: open.map(str::to_owned),
        };
        let alert = testing::alert("a", Timestamp::from_seconds(at));
        let now = Timestamp::from_seconds(now);
        let listener = listener(&["*"], &Kind::ALL, 2);
        assert_eq!(rules().plan(&listener, &alert, &standing, now), expected);
    }

    fn open(due: i64) -> Plan {
        Plan::Open {
            digest: "digest/a".to_owned(),
            due: Timestamp::from_seconds(due),
        }
    }

    #[test]
    fn folds_what_goes_beyond_the_bound() {
        check_plan(&[], None, (9, 10), Plan::Send);
        check_plan(&[5], None, (9, 10), Plan::Send);
        check_plan(&[5, 6], None, (9, 10), open(3_605));
        check_plan(&[5, 6], None, (9, 3_604), open(3_605));
        check_plan(&[5, 6], None, (9, 3_605), Plan::Send);
        check_plan(&[1, 5, 6], None, (9, 10), open(3_605));
        let join = || Plan::Join {
            digest: "d".to_owned(),
        };
        check_plan(&[5, 6, 3_605], Some("d"), (9, 20), join());
        check_plan(&[], Some("d"), (9, 20), join());
    }

    #[test]
    fn an_old_alert_is_not_sent() {
        let too_old = || Plan::Suppress { reason: "too old" };
        check_plan(&[], None, (0, 86_400), Plan::Send);
        check_plan(&[], None, (0, 86_401), too_old());
        check_plan(&[1, 2], Some("d"), (0, 86_401), too_old());
        check_plan(&[], None, (86_500, 10), Plan::Send);
    }

    proptest! {
        /// Against a plain simulation: no span of the window holds more messages than the bound, and every alert is
        /// told, alone or in a digest.
        #[test]
        fn no_window_is_ever_over_its_bound(
            gaps in prop::collection::vec(0..400_i64, 1..200),
            messages_max in 1..5_usize,
        ) {
            let (rules, listener) = (rules(), listener(&["*"], &Kind::ALL, messages_max));
            let mut slots: Vec<Timestamp> = Vec::new();
            let (mut now, mut digest_due) = (0, None);
            for gap in gaps {
                now += gap;
                let at = Timestamp::from_seconds(now);
                digest_due = digest_due.filter(|due| at < *due);
                let open_digest = digest_due.map(|_| "d".to_owned());
                let standing = Standing { slots: slots.clone(), open_digest };
                match rules.plan(&listener, &testing::alert("a", at), &standing, at) {
                    Plan::Send => slots.push(at),
                    Plan::Join { .. } => {}
                    Plan::Open { due, .. } => {
                        prop_assert!(at < due && due <= at.plus(HOUR));
                        slots.push(due);
                        digest_due = Some(due);
                    }
                    Plan::Suppress { reason } => prop_assert!(false, "{}", reason),
                }
            }
            prop_assert!(slots.is_sorted());
            for start in &slots {
                let span = slots.iter().filter(|s| start <= s && **s < start.plus(HOUR));
                prop_assert!(span.count() <= messages_max);
            }
        }
    }
}
