//! The house rules that can be read from the source.

use std::fs;
use std::path::{Path, PathBuf};

use tests::installed::project;

const SERVICES: [&str; 5] = ["ingest", "aggregator", "enforcer", "notifier", "gateway"];
const LINES_MAX: usize = 500;
/// What is made by a build or a run, and is nobody's style.
const NOT_OURS: [&str; 4] = ["target", ".git", ".cache", "weir-data"];
/// Names that a pure file cannot need: it reads no clock, does no I/O and waits for nothing.
const IMPURE: [&str; 9] = [
    "tokio", "rdkafka", "sqlx", "redis", "axum", "reqwest", "async", "await", "std::fs",
];
/// Compiled for tests only, where reading sample files is no sin.
const TESTS_ONLY: [&str; 4] = [
    "schemas/src/calendar/table.rs",
    "schemas/src/codec/compat.rs",
    "aggregator/src/counter/tests/calendars.rs",
    "aggregator/src/engine/trace.rs",
];
/// What a message may begin with although it has a capital letter.
const PROPER_NAMES: [&str; 4] = ["Weir", "Kafka", "Avro", "Postgre"];
/// Pure files, and folders of them.
const PURE: &[&str] = &[
    "schemas/src",
    "aggregator/src/counter",
    "aggregator/src/counter.rs",
    "aggregator/src/dense.rs",
    "aggregator/src/engine",
    "aggregator/src/engine.rs",
    "aggregator/src/event.rs",
    "aggregator/src/groups.rs",
    "aggregator/src/ledger.rs",
    "aggregator/src/model.rs",
    "aggregator/src/owner",
    "aggregator/src/owner.rs",
    "aggregator/src/partial.rs",
    "aggregator/src/plan.rs",
    "aggregator/src/rollup",
    "aggregator/src/rollup.rs",
    "aggregator/src/room.rs",
    "aggregator/src/seen.rs",
    "aggregator/src/sketch",
    "aggregator/src/sketch.rs",
    "aggregator/src/window",
    "aggregator/src/window.rs",
    "enforcer/src/alert",
    "enforcer/src/alert.rs",
    "enforcer/src/command",
    "enforcer/src/command.rs",
    "enforcer/src/decide",
    "enforcer/src/decide.rs",
    "enforcer/src/decision.rs",
    "enforcer/src/dry_run.rs",
    "enforcer/src/explain",
    "enforcer/src/explain.rs",
    "enforcer/src/policy",
    "enforcer/src/policy.rs",
    "gateway/src/cache",
    "gateway/src/cache.rs",
    "schemas/src/calendar.rs",
    "gateway/src/check",
    "gateway/src/check.rs",
    "gateway/src/dry_run.rs",
    "gateway/src/hash.rs",
    "gateway/src/headers.rs",
    "gateway/src/ledger",
    "gateway/src/ledger.rs",
    "gateway/src/orders",
    "gateway/src/orders.rs",
    "gateway/src/plan.rs",
    "gateway/src/reply.rs",
    "gateway/src/request.rs",
    "gateway/src/share",
    "gateway/src/share.rs",
    "gateway/src/window",
    "gateway/src/window.rs",
    "ingest/src/admit.rs",
    "ingest/src/throttle.rs",
    "notifier/src/alert.rs",
    "notifier/src/message.rs",
    "notifier/src/retry.rs",
    "notifier/src/route.rs",
    "bus/src/layout.rs",
];

/// A file of the project: its path from the project's folder, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The text without its line comments.
    fn code(&self) -> String {
        let lines = self.text.lines().map(|line| match line.find("//") {
            // `://` is an address in a string, not a comment.
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn is_under(&self, place: &str) -> bool {
        self.path == place
            || self
                .path
                .strip_prefix(place)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

/// All files of the project whose names end with one of `endings`.
fn sources(endings: &[&str]) -> Vec<Source> {
    let root = project();
    let mut files = Vec::new();
    collect(&root, &mut files);
    let named = |file: &PathBuf| {
        let path = file.strip_prefix(&root).expect("a file of the project");
        path.to_string_lossy().into_owned()
    };
    let wanted = files.iter().map(|file| (named(file), file));
    let wanted = wanted.filter(|(path, _)| endings.iter().any(|ending| path.ends_with(ending)));
    let read = |(path, file): (String, &PathBuf)| {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"));
        Source { path, text }
    };
    wanted.map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of it").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if NOT_OURS.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Whether `code` has `name` as whole words: `use redis` is not in `use redistribution`.
fn names(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        let goes_on = name.ends_with(is_word) && after.is_some_and(is_word);
        !before.is_some_and(is_word) && !goes_on
    })
}

#[track_caller]
fn none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn pure_files_do_nothing_but_compute() {
    let all = sources(&[".rs"]);
    let mut broken = Vec::new();
    for place in PURE {
        let mut found = false;
        for source in all.iter().filter(|source| source.is_under(place)) {
            found = true;
            if TESTS_ONLY.contains(&source.path.as_str()) {
                continue;
            }
            // The words of HTTP by another name.
            let code = source.code().replace("axum::http::", "http::");
            let used = IMPURE.iter().filter(|name| names(&code, name));
            broken.extend(used.map(|name| format!("{} names {name}", source.path)));
        }
        assert!(
            found,
            "{place} is on the list of pure files and does not exist"
        );
    }
    none("pure files name none of these", broken);
}

/// `users`: the only folders whose code or manifest may use `dependency`.
#[track_caller]
fn check_users(dependency: &str, users: &[&str]) {
    let in_code = [format!("{dependency}::"), format!("use {dependency}")];
    let in_manifest = ["-", "_"].map(|dash| format!("\n{}.", dependency.replace('_', dash)));
    let mut broken = Vec::new();
    for source in sources(&[".rs", "Cargo.toml"]) {
        let code = source.code();
        let used = match source.path.ends_with(".toml") {
            true => in_manifest.iter().any(|line| code.contains(line)),
            false => in_code.iter().any(|path| names(&code, path)),
        };
        if used && !users.iter().any(|user| source.is_under(user)) {
            broken.push(source.path);
        }
    }
    none(&format!("only {users:?} use {dependency}"), broken);
}

#[test]
fn each_client_has_one_home() {
    // The tests bring clients of their own, to look from outside.
    check_users("rdkafka", &["bus", "tests"]);
    check_users("apache_avro", &["schemas"]);
    check_users("serde_avro_fast", &["schemas"]);
    check_users("kafka_protocol", &["broker", "tests"]);
    check_users("lettre", &["notifier"]);
    check_users("redis", &["gateway", "tests"]);
}

#[test]
fn services_share_topics_and_nothing_else() {
    let mut broken = Vec::new();
    for source in sources(&[".rs", "Cargo.toml"]) {
        for service in SERVICES.iter().filter(|service| source.is_under(service)) {
            let code = source.code();
            let others = SERVICES.iter().filter(|other| *other != service);
            let imported = others.filter(|other| {
                names(&code, &format!("{other}.workspace")) || names(&code, &format!("use {other}"))
            });
            broken.extend(imported.map(|other| format!("{} imports {other}", source.path)));
        }
        if source.is_under("broker") && names(&source.code(), "schemas") {
            broken.push(format!("{} imports schemas", source.path));
        }
    }
    none(
        "services never import one another, and the log knows nothing of Weir",
        broken,
    );
}

#[test]
fn clocks_and_tasks_have_one_home_each() {
    let homes = [
        "bus/src/clock.rs",
        "broker/src/clock.rs",
        "weir/src/supervise.rs",
    ];
    let all = sources(&[".rs"]);
    let lifted = all
        .iter()
        .filter(|source| names(&source.code(), "clippy::disallowed_methods"));
    let broken =
        lifted.filter(|source| !homes.contains(&source.path.as_str()) && !source.is_under("tests"));
    none(
        "the disallowed methods are called in one place",
        broken.map(|s| s.path.clone()).collect(),
    );
}

#[test]
fn files_stay_readable() {
    let long = sources(&[".rs"]).into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (LINES_MAX < lines).then(|| format!("{}: {lines} lines", source.path))
    });
    none("no file is longer than 500 lines", long.collect());
}

#[test]
fn every_crate_says_what_it_is() {
    let silent = sources(&["src/lib.rs", "src/main.rs"])
        .into_iter()
        .filter_map(|source| {
            let documented = source.text.starts_with("//!") || source.text.starts_with("#![doc");
            (!documented).then_some(source.path)
        });
    none("a crate begins with what it is for", silent.collect());
}

#[test]
fn no_test_is_ignored() {
    let mark = ["#[", "ignore"].concat();
    let ignored = sources(&[".rs"])
        .into_iter()
        .filter(|source| source.code().contains(&mark));
    none(
        "no test is ignored",
        ignored.map(|source| source.path).collect(),
    );
}

#[test]
fn nothing_names_a_machine() {
    let places = ["root", "home", "work", "Users"].map(|folder| format!("/{folder}/"));
    let mut broken = Vec::new();
    let endings = [
        ".rs",
        ".toml",
        ".md",
        ".yml",
        ".xml",
        ".sql",
        "Makefile",
        "Dockerfile",
        "run",
    ];
    for source in sources(&endings) {
        let named = places
            .iter()
            .filter(|place| source.text.contains(place.as_str()));
        broken.extend(named.map(|place| format!("{} names {place}", source.path)));
    }
    none("no absolute path of somebody's machine", broken);
}

#[test]
fn logs_and_errors_read_alike() {
    let macros = ["error!(", "warn!(", "info!(", "debug!(", "#[error("];
    let mut broken = Vec::new();
    for source in sources(&[".rs"]) {
        for opening in macros {
            for (at, _) in source.text.match_indices(opening) {
                let message = first_literal(&source.text[at + opening.len()..]);
                let named = PROPER_NAMES.iter().any(|name| message.starts_with(name));
                let mut letters = message.chars();
                let capital = letters.next().is_some_and(char::is_uppercase);
                // Two capitals begin an abbreviation, such as `HTTP`.
                let abbreviated = letters.next().is_some_and(char::is_uppercase);
                let shouts = capital && !abbreviated && !named;
                if shouts || message.ends_with('.') {
                    broken.push(format!("{}: `{message}`", source.path));
                }
            }
        }
    }
    none(
        "messages begin in lower case and end without a full stop",
        broken,
    );
}

/// The first string literal of a macro's arguments that is a message: field values such as `%"x"` do not occur.
fn first_literal(arguments: &str) -> &str {
    let end = arguments.find(')').unwrap_or(arguments.len());
    let mut parts = arguments[..end].splitn(3, '"');
    match (parts.next(), parts.next()) {
        (Some(_), Some(message)) => message,
        _ => "",
    }
}

/// Paths in backticks: those that begin with a folder of the project lead somewhere.
#[test]
fn the_map_leads_somewhere() {
    let root = project();
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut broken = Vec::new();
    for line in map.lines() {
        let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        // A row of the code map names its files from the folder in its first column.
        let row = line
            .starts_with("| `")
            .then(|| quoted.first().copied())
            .flatten();
        for (index, path) in quoted.iter().enumerate() {
            let from = match row {
                Some(folder) if index > 0 && path.starts_with("src/") => root.join(folder),
                _ => root.clone(),
            };
            let first = path.split('/').next().unwrap_or_default();
            let is_path = path.contains('/') && !first.is_empty() && from.join(first).is_dir();
            if is_path && !path.contains(' ') && !from.join(path).exists() {
                broken.push((*path).to_owned());
            }
        }
    }
    none("what ARCHITECTURE.md points at exists", broken);
}
