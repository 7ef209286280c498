//! The `weir` binary as a process of a test's own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, send};
use crate::installed::project;
use crate::process::{Process, Signal};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// How to start one.
#[derive(Clone, Debug)]
pub struct Options {
    /// `up`, or the name of one service.
    pub command: &'static str,
    /// The policy file's text; a service without policy ignores it.
    pub policy: String,
    /// The configuration file's text.
    pub config: String,
    /// A Kafka cluster in place of the embedded log.
    pub kafka: Option<String>,
    /// More for its environment.
    pub environment: Vec<(&'static str, OsString)>,
}

impl Options {
    /// `weir up` with this policy, on the embedded log.
    #[must_use]
    pub fn up(policy: &str) -> Self {
        let (policy, config) = (policy.to_owned(), String::new());
        Self {
            command: "up",
            policy,
            config,
            kafka: None,
            environment: Vec::new(),
        }
    }

    /// On a Kafka cluster, where one is given.
    #[must_use]
    pub fn on(self, kafka: Option<String>) -> Self {
        Self { kafka, ..self }
    }

    #[must_use]
    pub fn with_config(self, config: &str) -> Self {
        Self {
            config: config.to_owned(),
            ..self
        }
    }
}

/// A `weir` with its data folder. Dropped: stopped in order, and then its data gone.
pub struct Weir {
    options: Options,
    process: Process,
    folder: TempDir,
    listening: Value,
}

impl Weir {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("policy.toml"), &options.policy).expect("the policy");
        std::fs::write(folder.path().join("weir.toml"), &options.config).expect("the config");
        let (process, listening) = begin(&options, folder.path()).await;
        Self {
            options,
            folder,
            process,
            listening,
        }
    }

    /// Starts it again on the same folder, as an operator would after it ended.
    pub async fn start_again(&mut self) {
        (self.process, self.listening) = begin(&self.options, self.folder.path()).await;
    }

    /// Starts it again on the same folder with its log on this cluster, or in its own process.
    pub async fn start_again_on(&mut self, kafka: Option<String>) {
        self.options.kafka = kafka;
        self.start_again().await;
    }

    /// Ends it with no chance to write anything more.
    pub fn kill9(&mut self) {
        self.process.kill9();
        // The dead process could not: else the next start would be taken for ready too early.
        std::fs::remove_file(self.data_folder().join("listening.json")).expect("listening.json");
    }

    /// Asks it to stop, and waits for its end.
    pub fn terminate(&mut self, within: Duration) -> Option<ExitStatus> {
        self.process.signal(Signal::TERM);
        self.process.wait(within)
    }

    /// A client with the first operator's token and ingest key.
    ///
    /// # Panics
    /// When this process makes no keys: one with the enforcer does.
    #[must_use]
    pub fn client(&self) -> Client {
        let bytes = std::fs::read(self.data_folder().join("credentials.json"));
        let credentials: Value =
            serde_json::from_slice(&bytes.expect("credentials")).expect("credentials as JSON");
        let secret = |name: &str| credentials[name].as_str().expect("a secret").to_owned();
        self.client_with(&secret("ingest_key"), &secret("operator_token"))
    }

    /// A client with these secrets.
    #[must_use]
    pub fn client_with(&self, ingest_key: &str, operator_token: &str) -> Client {
        let data = self.listening["data"].as_str().unwrap_or("127.0.0.1:1");
        let management = self.listening["management"]
            .as_str()
            .expect("the management plane");
        Client::new(data, management, ingest_key, operator_token)
    }

    /// A client of `other`'s addresses with this one's secrets: both know the same keys by the log.
    #[must_use]
    pub fn client_at(&self, other: &Weir) -> Client {
        let own = self.client();
        other.client_with(own.ingest_key(), own.operator_token())
    }

    /// Makes a key or token of `role` for `tenant`, or for the whole platform, by the command that an operator would
    /// use, and gives its secret once it is known.
    ///
    /// # Panics
    /// When that fails.
    pub async fn create_key(&self, role: &str, tenant: Option<&str>) -> String {
        let tenant = tenant.map_or(vec![], |tenant| vec!["--tenant", tenant]);
        let made = self.key_command("create", &[&["--role", role][..], &tenant].concat());
        let made: Value = serde_json::from_slice(&made).expect("a line of JSON");
        let secret = made["secret"].as_str().expect("a secret").to_owned();
        crate::eventually("the new key is known", READY_WITHIN, async || {
            match self.key_status(&secret).await? {
                401 => Err("it is not".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        secret
    }

    /// Ends a key or token, and returns once it is known no more.
    ///
    /// # Panics
    /// When that fails.
    pub async fn revoke_key(&self, secret: &str) {
        let client = self.client().with_secret(secret);
        let shown = send(client.data(Method::GET, "/v1/key")).await;
        let id = shown.expect("an answer").json()["id"].clone();
        self.key_command("revoke", &[id.as_str().expect("an id")]);
        crate::eventually("the key is revoked", READY_WITHIN, async || {
            match self.key_status(secret).await? {
                401 => Ok(()),
                status => Err(status.to_string()),
            }
        })
        .await;
    }

    async fn key_status(&self, secret: &str) -> Result<u16, String> {
        let client = self.client().with_secret(secret);
        let answer = send(client.data(Method::GET, "/v1/key")).await?;
        Ok(answer.status)
    }

    /// What `weir key COMMAND` prints.
    fn key_command(&self, name: &str, args: &[&str]) -> Vec<u8> {
        let mut command = command("key");
        command.arg(name).args(args).arg("--data");
        command.arg(self.data_folder());
        if let Some(bootstrap) = &self.options.kafka {
            command.args(["--kafka", bootstrap]);
        }
        let output = command.output().expect("weir runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        output.stdout
    }

    /// The addresses it listens on, as it wrote them down.
    #[must_use]
    pub const fn listening(&self) -> &Value {
        &self.listening
    }

    /// Where Kafka clients find its log.
    ///
    /// # Panics
    /// When it has none, nor a cluster.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let own = self.listening["log"].as_str().map(str::to_owned);
        own.or_else(|| self.options.kafka.clone()).expect("a log")
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes the policy file anew, as an operator's editor would.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn edit_policy(&self, text: &str) {
        std::fs::write(self.folder.path().join("policy.toml"), text).expect("the policy");
    }

    /// All that it has logged.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Starts the process and waits for `listening.json`.
async fn begin(options: &Options, folder: &Path) -> (Process, Value) {
    let mut command = command(options.command);
    command.envs(options.environment.iter().cloned());
    command.arg("--data").arg(folder.join("data"));
    command.arg("--config").arg(folder.join("weir.toml"));
    command.args(["--port-data", "0", "--port-management", "0"]);
    if matches!(options.command, "up" | "enforcer") {
        command.arg("--policy").arg(folder.join("policy.toml"));
    }
    match &options.kafka {
        Some(bootstrap) => command.args(["--kafka", bootstrap]),
        None => command.args(["--port-log", "0"]),
    };
    let log = folder.join("weir.log");
    let mut process = Process::start("weir", &mut command, &log, Signal::TERM);
    let listening = folder.join("data/listening.json");
    let listening = crate::eventually("weir is ready", READY_WITHIN, async || {
        if let Some(status) = process.ended() {
            panic!("weir ended at its start: {status}\n{}", process.output());
        }
        let bytes = std::fs::read(&listening).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    })
    .await;
    (process, listening)
}

/// `weir NAME`, with nothing of this process's environment that is meant for a `weir`.
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(binary());
    for variable in [
        "WEIR_DATA",
        "WEIR_CONFIG",
        "WEIR_POLICY",
        "WEIR_MANAGEMENT",
        "WEIR_TOKEN",
        "WEIR_KAFKA",
        "WEIR_KAFKA_SASL_USERNAME",
        "WEIR_KAFKA_SASL_PASSWORD",
        "WEIR_KAFKA_TLS_KEY_PASSWORD",
        "WEIR_S3_ACCESS_KEY_ID",
        "WEIR_S3_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.arg(name);
    command
}

/// The binary under test: `WEIR_BINARY`, or what cargo builds when a test first asks (quick when it is up to date).
fn binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let given = || std::env::var_os("WEIR_BINARY").map(PathBuf::from);
    match BINARY.get_or_init(|| given().map_or_else(build, Ok)) {
        Ok(binary) => binary,
        Err(errors) => panic!("weir does not build:\n{errors}"),
    }
}

fn build() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "weir",
        "--message-format=json",
    ]);
    // A bench measures what is shipped.
    if !cfg!(debug_assertions) {
        command.args(["--profile", "dist"]);
    }
    let output = command
        .current_dir(project())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executable.ok_or_else(|| "cargo does not name the binary that it built".to_owned())
}
