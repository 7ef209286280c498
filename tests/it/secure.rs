//! Weir on a Kafka that lets in whom it knows and allows what was granted: who is let in, what is said to whom is not,
//! and that the rights which `docs/operations.md` lists are those that the services need.

mod rights;
mod running;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use bus::clock::SystemClock;
use bus::{Bus, Config, Mechanism, Sasl, Secret, Tls};
use tests::kafka::secure::{PASSWORD, Secure};

const SOON: Duration = Duration::from_secs(60);

/// One broker for everything: most of the time goes into its start. What comes first leaves the topics behind that
/// the others use.
#[tokio::test(flavor = "multi_thread")]
async fn a_secured_cluster() {
    let kafka = Secure::start().await;
    rights::missing_topics(&kafka).await;
    trust::who_is_let_in(&kafka).await;
    rights::at_start(&kafka).await;
    rights::of_a_group(&kafka).await;
    running::everything_in_one_process(&kafka).await;
    running::every_service_with_its_own_rights(&kafka).await;
}

/// Whom the broker trusts.
fn ca(kafka: &Secure) -> Tls {
    Tls {
        ca: Some(kafka.ca()),
        ..Tls::default()
    }
}

fn sasl(mechanism: Mechanism, username: &str, password: &str) -> Sasl {
    Sasl {
        mechanism,
        username: username.to_owned(),
        password: Some(Secret::new(password)),
        password_file: None,
    }
}

fn config(bootstrap: String, tls: Option<Tls>, sasl: Option<Sasl>) -> Config {
    Config {
        bootstrap,
        tls,
        sasl,
        ready_within: Duration::from_secs(5),
        ..Config::default()
    }
}

/// Of a user that signs in with PLAIN over TLS.
fn user(kafka: &Secure, name: &str) -> Config {
    let sasl = sasl(Mechanism::Plain, name, PASSWORD);
    config(kafka.sasl(), Some(ca(kafka)), Some(sasl))
}

/// Connects, or gives the text of the error.
async fn connect(config: Config) -> Result<Bus, String> {
    let connected = Bus::connect(config, Arc::new(SystemClock)).await;
    connected.map_err(|error| error.to_string())
}

#[track_caller]
fn check_text(what: &str, text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{what}: `{part}` is not in: {text}");
    }
    assert!(!text.contains(PASSWORD), "{what}: a password in: {text}");
}

/// Runs the command of Kafka's that `text` holds between backticks, as the administrator.
fn run_command(kafka: &Secure, script: &str, text: &str) {
    let mut commands = text.split('`').skip(1).step_by(2);
    let command = commands.find(|command| command.starts_with(script));
    let command = command.unwrap_or_else(|| panic!("no {script} in: {text}"));
    let admin = kafka.admin();
    let mut words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let at = words.iter().position(|word| *word == "--bootstrap-server");
    words[at.expect("a server") + 1] = &admin;
    let words: Vec<&str> = words
        .into_iter()
        .map(|word| word.trim_matches('"'))
        .collect();
    kafka.tool(script, &words);
}
