//! A wall clock of a process's own: it shows what a test says, stands still or runs, and may jump. The monotonic clock,
//! by which the process waits, stays the machine's.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use schemas::time::Timestamp;
use tempfile::TempDir;

use crate::events::now;
use crate::installed::program;

/// What is loaded into the process: its text is beside this file.
const SOURCE: &str = include_str!("wall_clock.c");

/// A clock that processes started with its [`WallClock::environment`] read instead of the machine's.
pub struct WallClock {
    folder: TempDir,
    hand: Hand,
}

/// What it shows.
#[derive(Clone, Copy, Debug)]
enum Hand {
    StandsAt(Timestamp),
    /// So many microseconds ahead of the machine's.
    Runs(i64),
}

impl WallClock {
    /// One that shows `at` now, and runs.
    ///
    /// # Panics
    /// When there is no C compiler, or it does not compile.
    #[must_use]
    pub fn running_from(at: Timestamp) -> Self {
        let mut clock = Self {
            folder: tempfile::tempdir().expect("a folder"),
            hand: Hand::StandsAt(at),
        };
        clock.compile();
        clock.run_from(at);
        clock
    }

    fn compile(&self) {
        let source = self.path("wall_clock.c");
        fs::write(&source, SOURCE).expect("the source");
        let mut compiler = Command::new(program("cc", &[]));
        compiler.args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"]);
        compiler.args(["-shared", "-fPIC", "-pthread", "-o"]);
        let done = compiler
            .arg(self.path("wall_clock.so"))
            .arg(source)
            .output();
        let done = done.expect("cc runs");
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{errors}");
    }

    /// What a process needs to read it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.path("wall_clock.so").into()),
            ("WALL_CLOCK", self.path("hand").into()),
        ]
    }

    /// Shows `at`, and goes on from there.
    pub fn run_from(&mut self, at: Timestamp) {
        let ahead = at.as_micros() - now().as_micros();
        self.show(Hand::Runs(ahead), &format!("r{ahead}"));
    }

    /// Shows `at` and nothing else, until it is told otherwise.
    pub fn stand_at(&mut self, at: Timestamp) {
        self.show(Hand::StandsAt(at), &format!("s{}", at.as_micros()));
    }

    /// What it shows to whoever looks now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.hand {
            Hand::StandsAt(at) => at,
            Hand::Runs(ahead) => Timestamp::from_micros(now().as_micros() + ahead),
        }
    }

    fn show(&mut self, hand: Hand, text: &str) {
        let next = self.path("next");
        fs::write(&next, text).expect("the clock's hand");
        // At once: nobody reads half of it.
        fs::rename(next, self.path("hand")).expect("the clock's hand");
        self.hand = hand;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
