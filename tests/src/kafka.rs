//! A real Apache Kafka of one node: a container where a Docker engine answers, else its jars from Maven Central.
//! [`Cluster`] has three, always from the jars: its nodes are processes to be killed.

mod cluster;
pub mod secure;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::{ContainerRequest, ImageExt};
use tokio::sync::OnceCell;

use crate::docker::{self, Container};
use crate::eventually;
use crate::installed::project;
use crate::process::{Process, Signal, free_port};

pub use cluster::Cluster;

/// The version under test, of the image and of the jars (`tests/kafka/pom.xml`).
pub const VERSION: &str = "4.1.0";
const READY_WITHIN: Duration = Duration::from_secs(120);
const HOW: &str = "`sudo apt-get install -y openjdk-17-jre-headless maven`";

/// A broker that is its own controller. Dropped: stopped, its data gone. So too when the test process dies.
pub struct Kafka {
    port: u16,
    home: Home,
}

enum Home {
    Jars(Box<Jars>),
    Container {
        container: Box<Container>,
        _leash: Leash,
    },
}

struct Jars {
    process: Option<Process>,
    leash: Option<Leash>,
    folder: TempDir,
    library: PathBuf,
    tuning: Tuning,
}

/// How a broker is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tuning {
    /// Quick to start, with little memory, and its background work as frequent as tests need it.
    Tests,
    /// The same with less memory: one of three on this machine.
    OneOfThree,
    /// As Kafka's own scripts start it: a heap of 1 GiB, and its defaults.
    AsShipped,
}

impl Kafka {
    /// Starts one of the test's own, to be killed and restarted at will.
    ///
    /// # Panics
    /// When neither Docker nor Java and Maven are there, with the command that installs them.
    pub async fn start() -> Self {
        let port = free_port();
        let home = if docker::answers() {
            in_docker(port).await
        } else {
            Home::Jars(Box::new(Jars::prepare(port, Tuning::Tests)))
        };
        let mut kafka = Self { port, home };
        kafka.restart().await;
        kafka
    }

    /// Starts one from its jars with Kafka's own defaults, to be measured.
    ///
    /// # Panics
    /// When Java and Maven are not there, with the command that installs them.
    pub async fn start_as_shipped() -> Self {
        let port = free_port();
        let home = Home::Jars(Box::new(Jars::prepare(port, Tuning::AsShipped)));
        let mut kafka = Self { port, home };
        kafka.restart().await;
        kafka
    }

    /// The id of its process; none where it is a container.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        match &self.home {
            Home::Jars(jars) => jars.process.as_ref().map(Process::id),
            Home::Container { .. } => None,
        }
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// When it does not end, or runs in a container.
    pub fn stop(&mut self) {
        let Home::Jars(jars) = &mut self.home else {
            panic!("only a broker started from its jars is stopped in order")
        };
        jars.stop();
    }

    /// The one that all tests of this process share; its topics are told apart by names.
    ///
    /// # Panics
    /// Like [`Kafka::start`].
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// The value for `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it with no chance to write anything more.
    ///
    /// # Panics
    /// When the engine does not do as it is told.
    pub async fn kill9(&mut self) {
        match &mut self.home {
            Home::Jars(jars) => jars.kill9(),
            Home::Container { container, .. } => {
                let killed = container.stop_with_timeout(Some(0)).await;
                killed.expect("the container stops");
            }
        }
    }

    /// Starts it again on the data it had, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn restart(&mut self) {
        match &mut self.home {
            Home::Jars(jars) => jars.run(),
            Home::Container { container, .. } => {
                container.start().await.expect("the container starts");
            }
        }
        let bootstrap = self.bootstrap();
        wait_until_it_answers(&bootstrap, || {
            if let Home::Jars(jars) = &mut self.home {
                jars.check();
            }
        })
        .await;
    }
}

/// `check` is called each time that it does not answer yet, to fail early.
async fn wait_until_it_answers(bootstrap: &str, mut check: impl FnMut()) {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0")
        .create()
        .expect("a client");
    eventually("Kafka answers", READY_WITHIN, async || {
        check();
        let metadata = client.fetch_metadata(None, Duration::from_secs(2));
        match metadata.map(|m| m.brokers().len()) {
            Ok(1) => Ok(()),
            Ok(n) => Err(format!("{n} brokers")),
            Err(e) => Err(e.to_string()),
        }
    })
    .await;
}

impl Jars {
    /// One that is alone.
    fn prepare(port: u16, tuning: Tuning) -> Self {
        let controller = free_port();
        let properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n{}",
            lines(settings(tuning)),
        );
        Self::with(&properties, tuning)
    }

    /// A folder with a configuration and formatted storage.
    fn with(properties: &str, tuning: Tuning) -> Self {
        Self::with_arguments(properties, tuning, [])
    }

    /// Like [`Jars::with`], with more for the tool that formats.
    fn with_arguments<'a>(
        properties: &str,
        tuning: Tuning,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let library = library();
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let properties = format!("{properties}log.dirs={}\n", data.display());
        write(&folder.path().join("server.properties"), &properties);
        write(&folder.path().join("log4j2.properties"), LOGGING);
        let jars = Self {
            process: None,
            leash: None,
            folder,
            library,
            tuning,
        };
        let mut format = jars.java(&["kafka.tools.StorageTool", "format", "-t"]);
        format.args(["q1Sh-9_ISia_zwGINzRvyQ", "-c", "server.properties"]);
        format.args(arguments);
        let output = format.output().expect("java runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "Kafka cannot format its storage: {errors}"
        );
        jars
    }

    fn java(&self, arguments: &[&str]) -> Command {
        let mut java = Command::new("java");
        java.current_dir(self.folder.path());
        java.args(match self.tuning {
            Tuning::Tests => [
                "-Xms128m",
                "-Xmx768m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
            ],
            Tuning::OneOfThree => [
                "-Xms64m",
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
            ],
            Tuning::AsShipped => [
                "-Xms1g",
                "-Xmx1g",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
            ],
        });
        java.arg("-Dlog4j2.configurationFile=log4j2.properties");
        java.arg("-cp").arg(self.library.join("*")).args(arguments);
        java
    }

    fn run(&mut self) {
        let mut command = self.java(&["kafka.Kafka", "server.properties"]);
        let log = self.folder.path().join("kafka.log");
        let process = Process::start("Kafka", &mut command, &log, Signal::TERM);
        self.leash = Some(Leash::on(&format!("kill -9 {}", process.id())));
        self.process = Some(process);
    }

    fn stop(&mut self) {
        self.leash = None;
        if let Some(process) = &mut self.process {
            process.signal(Signal::TERM);
            let ended = process.wait(READY_WITHIN);
            assert!(ended.is_some(), "Kafka does not end");
        }
    }

    fn kill9(&mut self) {
        self.leash = None;
        if let Some(process) = &mut self.process {
            process.kill9();
        }
    }

    fn check(&mut self) {
        let ended = self.process.as_mut().and_then(Process::ended);
        if let Some(status) = ended {
            panic!("Kafka ended at its start: {status}");
        }
    }
}

impl Drop for Jars {
    fn drop(&mut self) {
        // Before the process, whose id could be another's afterwards.
        self.leash = None;
        // Its data is thrown away, so there is nothing to wait for.
        self.kill9();
    }
}

/// What a broker that is alone needs, and what makes it quick where it is only tested.
fn settings(tuning: Tuning) -> impl Iterator<Item = (&'static str, &'static str)> {
    let quick = match tuning {
        Tuning::Tests | Tuning::OneOfThree => &QUICK[..],
        Tuning::AsShipped => &[],
    };
    ALONE.iter().chain(quick).copied()
}

/// As a file of properties has them.
fn lines(settings: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    settings
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}

const ALONE: [(&str, &str); 4] = [
    (
        "listener.security.protocol.map",
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    ),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.replication.factor", "1"),
];

/// Background work as frequent as a test needs it, and little to set up.
const QUICK: [(&str, &str); 8] = [
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("log.cleaner.backoff.ms", "300"),
    ("log.initial.task.delay.ms", "500"),
    ("log.retention.check.interval.ms", "500"),
    ("log.segment.delete.delay.ms", "500"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
];

const LOGGING: &str = "rootLogger.level=WARN\n\
    rootLogger.appenderRef.out.ref=OUT\n\
    appender.out.name=OUT\n\
    appender.out.type=Console\n\
    appender.out.layout.type=PatternLayout\n\
    appender.out.layout.pattern=%d %p %c %m%n\n";

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a configuration file");
}

/// The folder with Kafka's jars, filled by Maven when a test first asks.
///
/// # Panics
/// When they are not there and cannot be fetched, with what to do.
#[must_use]
pub fn library() -> PathBuf {
    let cache = std::env::var_os("WEIR_TEST_CACHE")
        .map_or_else(|| project().join(".cache/kafka"), PathBuf::from);
    installed("java", "-version");
    let library = cache.join(VERSION);
    fs::create_dir_all(&cache).expect("the cache folder");
    // Several test processes may want them at once.
    let lock = File::create(cache.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if library.is_dir() {
        return library;
    }
    installed("mvn", "-version");
    let fresh = cache.join("fetching");
    let _ = fs::remove_dir_all(&fresh);
    let mut maven = Command::new("mvn");
    maven
        .args(["-q", "-B", "-f"])
        .arg(project().join("tests/kafka/pom.xml"));
    maven.arg("dependency:copy-dependencies");
    maven.arg(format!("-DoutputDirectory={}", fresh.display()));
    let output = maven.output().expect("mvn runs");
    assert!(
        output.status.success(),
        "Maven cannot fetch Kafka; is the network there?\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
    fs::rename(&fresh, &library).expect("the folder's final name");
    library
}

fn installed(program: &str, question: &str) {
    let asked = Command::new(program).arg(question).output();
    assert!(
        asked.is_ok(),
        "{program} is not installed, and no Docker engine answers: {HOW}"
    );
}

async fn in_docker(port: u16) -> Home {
    let own = port.to_string();
    let ready = WaitFor::message_on_stdout("Kafka Server started");
    let mut request: ContainerRequest<_> = docker::image("apache/kafka", VERSION, port, ready)
        .with_mapped_port(port, port.tcp())
        .with_env_var("KAFKA_NODE_ID", "1")
        .with_env_var("KAFKA_PROCESS_ROLES", "broker,controller")
        .with_env_var("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
        .with_env_var("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
        .with_env_var(
            "KAFKA_LISTENERS",
            format!("PLAINTEXT://:{own},CONTROLLER://:9093"),
        )
        .with_env_var(
            "KAFKA_ADVERTISED_LISTENERS",
            format!("PLAINTEXT://127.0.0.1:{own}"),
        );
    for (name, value) in settings(Tuning::Tests) {
        let variable = format!("KAFKA_{}", name.replace('.', "_").to_uppercase());
        request = request.with_env_var(variable, value);
    }
    let (container, _) = docker::start(request, port).await;
    let leash = Leash::on(&format!("docker rm -f {}", container.id()));
    Home::Container {
        container: Box::new(container),
        _leash: leash,
    }
}

/// Runs a command when this process dies in any way, so that nothing is left behind by a test run that was
/// interrupted or by a server that was never dropped. Let go when dropped.
struct Leash(Child);

impl Leash {
    fn on(command: &str) -> Self {
        let held = Command::new("sh")
            .arg("-c")
            // Reading ends when the other end of the pipe, which only this process has, is closed.
            .arg(format!("read -r _ || {command}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(held.expect("a shell"))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
