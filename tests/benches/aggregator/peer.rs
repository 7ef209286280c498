//! The other program, which sums the same events.

use std::path::PathBuf;
use std::process::Command;

use crate::stand::TOPIC;

pub(crate) struct Peer {
    /// Of its jar and its libraries, as Java takes it.
    class_path: String,
}

impl Peer {
    /// # Panics
    /// When the folder is named and holds no jar.
    pub(crate) fn find() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("WEIR_BENCH_PEER")?);
        let files = std::fs::read_dir(&folder).expect("the folder of WEIR_BENCH_PEER");
        let mut paths = files.map(|file| file.expect("a file").path());
        let jar = paths.find(|path| path.extension().is_some_and(|extension| extension == "jar"));
        let jar = jar.unwrap_or_else(|| panic!("{} holds no jar", folder.display()));
        let library = folder.join("lib/*");
        Some(Self {
            class_path: format!("{}:{}", jar.display(), library.display()),
        })
    }

    /// Its events per CPU second, as it says itself; none if it says none.
    pub(crate) fn run(&self, bootstrap: &str, events: usize) -> Option<f64> {
        let mut java = Command::new("java");
        java.args(["-Xmx8g", "-Dmax=100", "-cp", &self.class_path, "Baseline"]);
        java.args(["run", bootstrap, TOPIC, &events.to_string()]);
        java.args(["ring", "mem", "alos"]);
        let output = java.output().expect("java runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let before = text.split(" events/cpu-second").next()?;
        let rate = before.rsplit(' ').next()?.parse().ok();
        if rate.is_none() {
            let errors = String::from_utf8_lossy(&output.stderr);
            crate::say(&format!("the peer says no rate: {text}{errors}"));
        }
        rate
    }
}
