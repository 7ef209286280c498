//! kcat, which people reach for first; Debian's is built on a librdkafka of 2023.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::lab::Lab;
use super::wire::{Wire, batches, fetch_request};
use crate::installed::program;

/// What kcat prints, given `input`.
fn kcat(lab: &Lab, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new(program("kcat", &[]));
    command.args(["-b", &lab.bootstrap, "-q"]).args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("its input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kcat {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn round_trip(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(2, &[])?;
    let listed = kcat(lab, &["-L", "-t", &topic], "")?;
    let expected = format!("topic \"{topic}\" with 2 partitions");
    ensure!(listed.contains(&expected), "{listed}");
    kcat(
        lab,
        &["-P", "-t", &topic, "-p", "1", "-K", ":"],
        "a:one\nb:two\nc:three\n",
    )?;
    let read = kcat(lab, &["-C", "-t", &topic, "-e", "-f", "%p %o %k=%s\n"], "")?;
    ensure!(read == "1 0 a=one\n1 1 b=two\n1 2 c=three\n", "{read}");
    let read = kcat(lab, &["-C", "-t", &topic, "-p", "1", "-o", "-1", "-e"], "")?;
    ensure!(read == "three\n", "the last one: {read}");
    for (time, offset) in [("-1", "3"), ("-2", "0"), ("0", "0")] {
        let asked = format!("{topic}:1:{time}");
        let told = kcat(lab, &["-Q", "-t", &asked], "")?;
        let is_told = told.contains(&format!("[1] offset {offset}"));
        ensure!(is_told, "{time}: {told}");
    }
    let group = lab.name("group");
    let read = kcat(
        lab,
        &[
            "-G",
            &group,
            "-X",
            "auto.offset.reset=earliest",
            "-c",
            "2",
            &topic,
        ],
        "",
    )?;
    ensure!(read == "one\ntwo\n", "as a group: {read}");
    Ok(())
}

/// What it is told to compress lies compressed in the log.
pub(super) fn codecs(lab: &Lab) -> anyhow::Result<()> {
    let lines = "the same line again and again\n".repeat(50);
    for (number, codec) in [(1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")] {
        let topic = lab.topic(1, &[])?;
        kcat(lab, &["-P", "-t", &topic, "-z", codec], &lines)?;
        let data = Wire::connect(lab)?.fetch(&fetch_request(&topic, 0))?;
        let found = batches(data.records.unwrap_or_default());
        let is_compressed = !found.is_empty() && found.iter().all(|(_, _, codec)| *codec == number);
        ensure!(is_compressed, "{codec}: {found:?}");
        let read = kcat(lab, &["-C", "-t", &topic, "-e"], "")?;
        ensure!(
            read == lines,
            "{codec}: {} bytes of {}",
            read.len(),
            lines.len()
        );
    }
    Ok(())
}
