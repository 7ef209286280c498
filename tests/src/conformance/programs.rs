//! A smaller set with other clients: the Java client and franz-go, each a program that prints a line for each case.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::Holds::{self, Everywhere, Only};
use super::{Home, Lab, NO_ACLS, NO_KIP_848, NO_TRANSACTIONS, Outcome, Report};
use crate::installed::{program, project};

/// A client library other than librdkafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `kafka-clients`, in `tests/clients/java`.
    Java,
    /// franz-go, in `tests/clients/go`.
    Go,
}

/// The cases of both clients.
const BOTH: &[(&str, Holds)] = &[
    ("codec none", Everywhere),
    ("codec gzip", Everywhere),
    ("codec snappy", Everywhere),
    ("codec lz4", Everywhere),
    ("codec zstd", Everywhere),
    ("a seek into the middle", Everywhere),
    ("offsets of times", Everywhere),
    ("a write wakes a waiting reader", Everywhere),
    ("a tombstone in a compacted topic", Everywhere),
    ("a group of two shares cooperatively", Everywhere),
    ("a static member keeps its partitions", Everywhere),
    ("a static member is fenced by its successor", Everywhere),
    ("commit and resume", Everywhere),
    ("topics are made, described, altered and grown", Everywhere),
    ("a topic is deleted", Everywhere),
    ("records are deleted up to an offset", Everywhere),
    ("groups are listed, described and deleted", Everywhere),
    ("transactions", Only(Home::Kafka, NO_TRANSACTIONS)),
    (
        "transactions are refused",
        Only(Home::Embedded, NO_TRANSACTIONS),
    ),
    ("ACLs can be switched on", Only(Home::Kafka, NO_ACLS)),
    ("ACLs are refused", Only(Home::Embedded, NO_ACLS)),
];

/// What only the Java client has, or shows.
const JAVA: &[(&str, Holds)] = &[
    ("a log that was cut is noticed", Everywhere),
    ("share groups are refused", Everywhere),
    ("groups of KIP-848", Only(Home::Kafka, NO_KIP_848)),
    (
        "groups of KIP-848 are refused",
        Only(Home::Embedded, NO_KIP_848),
    ),
];

impl Client {
    /// The cases that its program must report on, and where they hold.
    pub fn cases(self) -> impl Iterator<Item = (&'static str, Holds)> {
        let own = match self {
            Client::Java => JAVA,
            Client::Go => &[],
        };
        BOTH.iter().chain(own).copied()
    }

    /// Builds its program, unless it is up to date, and runs it. A case that it does not report on has failed.
    ///
    /// # Panics
    /// When it cannot be built, with what is missing.
    #[must_use]
    pub fn run(self, lab: &Lab, home: Home) -> Report {
        let name = match home {
            Home::Embedded => "embedded",
            Home::Kafka => "kafka",
        };
        let mut command = self.built();
        let output = command.args([lab.bootstrap(), name]).output();
        let output = output.expect("the program that was just built starts");
        read(&output, self.cases(), home)
    }

    /// The command that starts its program, without arguments.
    fn built(self) -> Command {
        let (folder, out) = match self {
            Client::Java => (
                project().join("tests/clients/java"),
                target().join("clients/java"),
            ),
            Client::Go => (
                project().join("tests/clients/go"),
                target().join("clients/go"),
            ),
        };
        fs::create_dir_all(&out).expect("a folder for what is built");
        // Both homes are tested at once, by processes that share this folder.
        let lock = File::create(out.join("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        match self {
            Client::Java => java(&folder, &out),
            Client::Go => go(&folder, &out),
        }
    }
}

/// Cargo's, where this test was built.
fn target() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this test");
    let mut folders = own
        .ancestors()
        .filter(|folder| folder.join("CACHEDIR.TAG").is_file());
    folders
        .next()
        .map_or_else(|| project().join("target"), Path::to_path_buf)
}

fn java(folder: &Path, out: &Path) -> Command {
    let sources = newest(&folder.join("src")).max(newest(&folder.join("pom.xml")));
    let done = out.join("done");
    if newest(&done) <= sources {
        // What an earlier version needed must not be found.
        let _ = fs::remove_dir_all(out.join("dependency"));
        let mut maven = Command::new(program("mvn", &[]));
        maven.args(["-q", "-B", "compile", "dependency:copy-dependencies", "-f"]);
        maven.arg(folder.join("pom.xml"));
        maven.arg(format!("-Dout={}", out.display()));
        succeed(&mut maven);
        File::create(&done).expect("a mark that it was built");
    }
    let mut java = Command::new(program("java", &[]));
    java.args([
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
    ]);
    let (classes, jars) = (out.join("classes"), out.join("dependency/*"));
    java.arg(format!("{}:{}", classes.display(), jars.display()));
    java.arg("Conformance");
    java
}

/// When the newest file in a folder was written, or a file; nothing where there is none.
fn newest(place: &Path) -> Option<std::time::SystemTime> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let own = fs::metadata(place).and_then(|m| m.modified()).ok();
    entries
        .map(|entry| newest(&entry.path()))
        .max()
        .flatten()
        .max(own)
}

fn go(folder: &Path, out: &Path) -> Command {
    let made = out.join("conformance");
    let mut go = Command::new(program("go", &[]));
    // The toolchain that is there, and the modules that `go.sum` names.
    go.env("GOTOOLCHAIN", "local")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-o"]);
    succeed(go.arg(&made).arg(".").current_dir(folder));
    Command::new(made)
}

fn succeed(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        said(&output)
    );
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// What a program said of each case that it should say something of.
fn read(output: &Output, cases: impl Iterator<Item = (&'static str, Holds)>, home: Home) -> Report {
    let said = said(output);
    let outcome = |(name, holds): (&'static str, Holds)| {
        let failed = format!("failed {name}: ");
        let outcome = match holds {
            Only(other, why) if other != home => Outcome::LeftOut(why),
            _ => {
                let ok = format!("ok {name}");
                let why = said.lines().find_map(|line| line.strip_prefix(&failed));
                match why {
                    Some(why) => Outcome::Failed(why.to_owned()),
                    None if said.lines().any(|line| line == ok) => Outcome::Passed,
                    None => Outcome::Failed(format!("not a word of it; the program said:\n{said}")),
                }
            }
        };
        (name, outcome)
    };
    Report(cases.map(outcome).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn every_case_has_an_outcome() {
        let output = Output {
            status: ExitStatus::from_raw(0),
            stdout: b"ok a\nfailed b: it rained\nok e\n".to_vec(),
            stderr: b"noise\n".to_vec(),
        };
        let why = "for this reason";
        let cases = [
            ("a", Everywhere),
            ("b", Everywhere),
            ("c", Everywhere),
            ("d", Only(Home::Kafka, why)),
            ("e", Only(Home::Embedded, why)),
        ];
        let Report(report) = read(&output, cases.into_iter(), Home::Embedded);
        let outcomes: Vec<_> = report.into_iter().map(|(_, outcome)| outcome).collect();
        assert_eq!(outcomes[0], Outcome::Passed);
        assert_eq!(outcomes[1], Outcome::Failed("it rained".to_owned()));
        assert!(matches!(&outcomes[2], Outcome::Failed(why) if why.contains("not a word")));
        assert_eq!(outcomes[3], Outcome::LeftOut(why));
        assert_eq!(outcomes[4], Outcome::Passed);
    }
}
