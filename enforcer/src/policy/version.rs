use schemas::policy::Policy;
use schemas::time::Timestamp;

/// The author of the versions that come from the policy file. No key's id has a space.
pub(crate) const FILE: &str = "policy file";

/// The longest reason that a version keeps, in characters.
pub(crate) const REASON_CHARS_MAX: usize = 500;

/// One version of the policy, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// What it says; its `version` is this one's number.
    pub(crate) policy: Policy,
    pub(crate) at: Timestamp,
    /// The id of the key that applied it, or [`FILE`].
    pub(crate) author: String,
    pub(crate) reason: String,
    /// The text it was read from.
    pub(crate) source: String,
}

/// What a list of versions tells of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) at: Timestamp,
    pub(crate) author: String,
    pub(crate) reason: String,
}

impl Version {
    /// Whether `source`, which was read as `policy`, is this version's.
    pub(crate) fn is_of(&self, source: &str, policy: &Policy) -> bool {
        let numbered = Policy {
            version: self.policy.version,
            ..policy.clone()
        };
        self.source == source && self.policy == numbered
    }

    pub(crate) fn head(&self) -> Head {
        Head {
            at: self.at,
            author: self.author.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// Whether the policy file, whose text `source` was read as `policy`, is to be made the version in force.
///
/// A file is obeyed when its text is another one than when a file was obeyed last, even if that text holds already:
/// then the trail says that the file is behind it now. A file that nobody touched changes nothing, so a restart does
/// not undo what was applied since; unless what holds came from this text and is read differently today.
pub(crate) fn file_is_news(
    versions: &[&Version],
    in_force: Option<&Version>,
    source: &str,
    policy: &Policy,
) -> bool {
    let of_file = versions.iter().filter(|version| version.author == FILE);
    let Some(obeyed) = of_file.max_by_key(|version| version.policy.version) else {
        return true;
    };
    let reads_differently = in_force.is_none_or(|held| {
        held.policy.version <= obeyed.policy.version && !held.is_of(source, policy)
    });
    obeyed.source != source || reads_differently
}

/// Whether `reason` can be kept.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_reason(reason: &str) -> Result<(), &'static str> {
    let length = reason.chars().count();
    if reason.trim().is_empty() {
        Err("say in a few words why the policy changes")
    } else if REASON_CHARS_MAX < length || reason.chars().any(char::is_control) {
        Err("a reason has at most 500 characters, on one line")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(number: u64, hard: &str) -> Version {
        let source = format!(
            "[[limit]]\nname = 'l'\nsubject = 'tenant/*'\nmeter = 'requests'\nwindow = 'sliding 60s'\nhard = {hard}\n"
        );
        let policy = crate::policy::read(&source).unwrap();
        Version {
            policy: Policy {
                version: number,
                ..policy
            },
            at: Timestamp::from_seconds(0),
            author: String::new(),
            reason: String::new(),
            source,
        }
    }

    /// `versions` are written `f7` (by the file, with the number 7 as its limit) or `k7` (by a key), oldest first;
    /// `file` is what the file holds at a start.
    #[track_caller]
    fn check(versions: &[&str], file: &str, is_news: bool) {
        let versions: Vec<Version> = (1..)
            .zip(versions)
            .map(|(number, text)| {
                let (author, hard) = text.split_at(1);
                let author = if author == "f" { FILE } else { "operator-1" };
                Version {
                    author: author.to_owned(),
                    ..policy(number, hard)
                }
            })
            .collect();
        let file = policy(0, file);
        let all: Vec<&Version> = versions.iter().collect();
        let found = file_is_news(&all, versions.last(), &file.source, &file.policy);
        assert_eq!(found, is_news);
    }

    #[test]
    fn the_file_is_obeyed_once_for_each_text() {
        check(&[], "1", true);
        check(&["f1"], "1", false);
        check(&["f1"], "2", true);
        check(&["f1", "k2"], "1", false);
        check(&["f1", "k2"], "3", true);
        // What was applied is in the file as well now: it stays, and the trail says so.
        check(&["f1", "k2"], "2", true);
        check(&["f1", "k2", "f2", "k3"], "2", false);
        check(&["f1", "k2", "f2", "k3"], "1", true);
        // Back to a text that was obeyed before the last.
        check(&["f1", "f2"], "1", true);
        check(&["k2"], "1", true);
    }

    #[test]
    fn a_text_that_is_read_differently_today_is_news_where_it_holds() {
        let file = policy(0, "1");
        let mut held = Version {
            author: FILE.to_owned(),
            ..policy(1, "1")
        };
        held.policy.limits[0].status = Some(503);
        let is_news = |versions: &[&Version]| {
            file_is_news(
                versions,
                versions.last().copied(),
                &file.source,
                &file.policy,
            )
        };
        assert!(is_news(&[&held]));
        assert!(!is_news(&[&held, &policy(2, "2")]));
    }

    #[test]
    fn a_reason_is_a_line_of_words() {
        for (reason, good) in [
            ("more for acme until March", true),
            ("größer", true),
            ("", false),
            ("  ", false),
            ("two\nlines", false),
        ] {
            assert_eq!(check_reason(reason).is_ok(), good, "{reason}");
        }
        assert!(check_reason(&"ä".repeat(REASON_CHARS_MAX)).is_ok());
        assert!(check_reason(&"a".repeat(REASON_CHARS_MAX + 1)).is_err());
    }
}
