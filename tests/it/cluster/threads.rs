//! How much each thread of a process works.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The threads of process `id` that are busy for more than half of `span`, by name.
pub(super) async fn busy(id: u32, span: Duration) -> Vec<String> {
    let before = worked(id);
    tokio::time::sleep(span).await;
    let busy = worked(id).into_iter().filter(|(thread, (_, after))| {
        let before = before
            .get(thread)
            .map_or(Duration::ZERO, |(_, before)| *before);
        span < 2 * after.saturating_sub(before)
    });
    busy.map(|(_, (name, _))| name).collect()
}

/// By thread: its name, and how long it has worked so far.
fn worked(id: u32) -> BTreeMap<String, (String, Duration)> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).expect("a running process");
    let worked = threads.filter_map(|thread| {
        let thread = thread.ok()?.path();
        // A thread may end between the two.
        let name = fs::read_to_string(thread.join("comm")).ok()?;
        let numbers = fs::read_to_string(thread.join("schedstat")).ok()?;
        let nanos = numbers.split(' ').next()?.parse().ok()?;
        let worked = Duration::from_nanos(nanos);
        let number = thread.file_name()?.to_string_lossy().into_owned();
        Some((number, (name.trim_end().to_owned(), worked)))
    });
    worked.collect()
}
