//! A policy as JSON of the same shape: it becomes the TOML text that is kept. And where in either a problem lies, as a
//! JSON pointer.

use std::collections::BTreeMap;

use schemas::policy::Policy;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{Problem, read};

/// The TOML text that says what `json` says. A member that is null is left out.
///
/// # Errors
/// When it is no JSON object, or holds what TOML cannot say.
pub fn toml_of(json: &[u8]) -> Result<String, String> {
    let mut value: Value = serde_json::from_slice(json).map_err(|e| format!("not JSON: {e}"))?;
    if !value.is_object() {
        return Err("a policy is a JSON object, as the policy file is a TOML table".to_owned());
    }
    drop_nulls(&mut value);
    toml::to_string(&value).map_err(|error| format!("this JSON cannot be said in TOML: {error}"))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A problem, and the JSON pointer (RFC 6901) to the value that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub pointer: String,
    pub problem: Problem,
}

/// As [`read`], with a pointer to where each problem lies.
///
/// # Errors
/// As [`read`].
pub fn read_located(text: &str) -> Result<Policy, Vec<Located>> {
    read(text).map_err(|problems| {
        let (document, _) = DeTable::parse_recoverable(text);
        let mut places = BTreeMap::new();
        note_table(text, "", document.get_ref(), &mut places);
        let located = problems.into_iter().map(|problem| {
            // What is said of a table stands where it begins; what is said of a text that is none, nowhere.
            let before = places.range(..=(problem.line, problem.column)).next_back();
            let pointer = before.map_or("", |(_, pointer)| pointer).to_owned();
            Located { pointer, problem }
        });
        located.collect()
    })
}

type Places = BTreeMap<(usize, usize), String>;

fn note_table(text: &str, pointer: &str, table: &DeTable<'_>, places: &mut Places) {
    for (key, value) in table {
        let name = key.get_ref().replace('~', "~0").replace('/', "~1");
        let pointer = format!("{pointer}/{name}");
        places.insert(place(text, key.span().start), pointer.clone());
        note(text, &pointer, value, places);
    }
}

fn note(text: &str, pointer: &str, value: &toml::Spanned<DeValue<'_>>, places: &mut Places) {
    let at = place(text, value.span().start);
    places.entry(at).or_insert_with(|| pointer.to_owned());
    match value.get_ref() {
        DeValue::Table(table) => note_table(text, pointer, table, places),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let pointer = format!("{pointer}/{index}");
                places.insert(place(text, item.span().start), pointer.clone());
                note(text, &pointer, item, places);
            }
        }
        _ => {}
    }
}

/// The line and column of a byte, from 1, as a [`Problem`] has them.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_says_what_toml_says() {
        let json = json!({
            "zone": "UTC",
            "default_tier": null,
            "tier": {"pro": {"limit": [{
                "name": "rpm", "subject": "tenant/*", "meter": "requests", "window": "sliding 60s", "hard": 600,
                "soft": ["80%", 500],
            }]}},
            "tenant": {"a/b": {"tier": "pro"}},
            "limit": [],
        });
        let toml = toml_of(json.to_string().as_bytes()).unwrap();
        let policy = read(&toml).unwrap();
        assert_eq!(policy.limits[0].hard(), 600);
        assert_eq!(policy.tier("a/b"), Some("pro"));
        assert_eq!(policy.default_tier, None);
    }

    #[test]
    fn other_json_is_no_policy() {
        for (json, told) in [
            ("", "not JSON: "),
            ("[]", "a policy is a JSON object"),
            ("{\"limit\": [null]}", "cannot be said in TOML"),
        ] {
            let error = toml_of(json.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{json}: {error}");
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let located = read_located(text).err().unwrap_or_default();
        let pointers: Vec<&str> = located.iter().map(|l| l.pointer.as_str()).collect();
        assert_eq!(pointers, expected, "{located:?}");
    }

    #[test]
    fn a_problem_points_to_its_value() {
        check("zone = 'Mars'", &["/zone"]);
        check("\n\nzonne = 'UTC'", &["/zonne"]);
        check(
            "tenant.a.tier = 'x'\n[tenant.'b/c']\nzone = 7",
            &["/tenant/a/tier", "/tenant/b~1c/zone"],
        );
        check(
            "[[limit]]\nname = 'a'\n[[limit]]\nname = 7\nsoft = ['x']",
            &[
                "/limit/0",
                "/limit/0",
                "/limit/0",
                "/limit/0",
                "/limit/1",
                "/limit/1",
                "/limit/1",
                "/limit/1",
                "/limit/1/name",
            ],
        );
        let limit = "[[limit]]\nname='a'\nsubject='tenant/*'\nmeter='tokens'\nwindow='sliding 60s'\nhard=9\n";
        check(
            &format!("{limit}soft = ['50%', '0%']"),
            &["/limit/0/soft/1"],
        );
        check("x = ", &["/x"]);
    }

    #[test]
    fn what_json_says_wrongly_is_told_by_pointer() {
        let toml = toml_of(br#"{"limit": [{"name": "a", "windwo": 3}], "zone": "Mars"}"#).unwrap();
        let located = read_located(&toml).unwrap_err();
        let told = |pointer: &str| {
            let found = located.iter().find(|l| l.pointer == pointer);
            found.map(|l| l.problem.text.as_str()).unwrap_or_default()
        };
        assert!(told("/limit/0/windwo").contains("did you mean `window`?"));
        assert!(told("/zone").contains("no IANA time zone"));
    }
}
