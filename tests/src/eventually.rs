use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(30);

/// Asks `probe` again and again until it answers, and gives that answer.
///
/// # Panics
/// When it has not answered `within` that time, with the last reason it gave.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let mut last = "no answer at all".to_owned();
    let asked = tokio::time::timeout(within, async {
        loop {
            match probe().await {
                Ok(answer) => return answer,
                Err(reason) => last = reason,
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
    asked.unwrap_or_else(|_| panic!("{what}: not within {within:?}; last seen: {last}"))
}
