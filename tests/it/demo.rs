//! The demo: the first thing that a stranger runs.

use tests::weir::command;

#[test]
fn shows_refusals_and_alerts_and_ends_well() {
    let output = command("demo")
        .args(["--for", "20s"])
        .output()
        .expect("weir runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{shown}\n{said}",
        output.status
    );
    let summary = shown
        .lines()
        .find(|line| line.starts_with("summary:"))
        .expect("a summary");
    for word in ["admitted", "refused", "events counted", "alerts arrived"] {
        assert!(summary.contains(word), "{summary}");
    }
}
