//! A PostgreSQL of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use testcontainers::ImageExt;
use testcontainers::core::WaitFor;

use crate::docker::{self, Container};
use crate::eventually;
use crate::installed::{is_root, program};
use crate::process::{Process, Signal, free_port, wait_for_port};

/// The user that owns the server; PostgreSQL refuses to run as root.
const USER: &str = "postgres";

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running server. Dropped: stopped, its data gone.
pub struct Postgres {
    port: u16,
    databases: AtomicU32,
    _home: Home,
}

#[expect(
    dead_code,
    reason = "held for what dropping it does: the process first, then its folder"
)]
enum Home {
    Installed(Process, TempDir),
    Container(Box<Container>),
}

impl Postgres {
    /// Starts one: in Docker where an engine answers, the installed one otherwise.
    ///
    /// # Panics
    /// When neither works, saying what is missing.
    pub async fn start() -> Self {
        let (home, port) = if docker::answers() {
            in_docker().await
        } else {
            installed().await
        };
        let server = Self {
            port,
            databases: AtomicU32::new(0),
            _home: home,
        };
        server.wait().await;
        server
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn fresh_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let mut connection = PgConnection::connect(&self.url(USER))
            .await
            .expect("a connection");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE weir_{number}"));
        connection
            .execute(sqlx::raw_sql(create))
            .await
            .expect("a new database");
        self.url(&format!("weir_{number}"))
    }

    /// It listens before it takes anybody in.
    async fn wait(&self) {
        eventually("postgres takes us in", READY_WITHIN, async || {
            let connected = PgConnection::connect(&self.url(USER)).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }
}

async fn in_docker() -> (Home, u16) {
    let ready = WaitFor::message_on_stderr("database system is ready to accept connections");
    let image = docker::image("postgres", "17", 5432, ready);
    let image = image.with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust");
    let (container, port) = docker::start(image, 5432).await;
    (Home::Container(Box::new(container)), port)
}

async fn installed() -> (Home, u16) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a data folder");
    if is_root() {
        for path in [folder.path(), data.as_path()] {
            run(Command::new("chown").arg(USER).arg(path));
        }
    }
    let options = [
        "--username",
        USER,
        "--auth",
        "trust",
        "--encoding",
        "UTF8",
        "--no-sync",
    ];
    run(as_owner("initdb").args(options).arg("--pgdata").arg(&data));
    let port = free_port();
    let mut server = as_owner("postgres");
    server
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
    // Nothing here outlives the test, so nothing has to reach the disk.
    server.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
    let log = folder.path().join("log");
    let mut process = Process::start("postgres", &mut server, &log, Signal::INT);
    wait_for_port(&mut process, port).await;
    (Home::Installed(process, folder), port)
}

/// The server's program `name`, run by the user that owns it.
fn as_owner(name: &str) -> Command {
    let file = program(name, &debian_folders());
    if !is_root() {
        return Command::new(file);
    }
    let mut command = Command::new(program("setpriv", &[]));
    command
        .args(["--reuid", USER, "--regid", USER, "--init-groups"])
        .arg(file);
    command.current_dir("/");
    command
}

/// Debian keeps each version's programs in a folder of their own, out of the path.
fn debian_folders() -> Vec<PathBuf> {
    let versions = fs::read_dir(Path::new("/usr/lib/postgresql"));
    let mut folders: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    folders.reverse();
    folders
}

fn run(command: &mut Command) {
    let output = command.output().expect("a command of the system");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}
