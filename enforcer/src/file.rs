//! The policy file, read whole or not at all.

use std::path::Path;

use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use crate::policy::POLICY_BYTES_MAX;
use crate::watch::Seen;

/// What the file holds, or why it cannot be read. Of a file that is too large one byte too many is given, so that
/// whoever reads the policy says so.
pub(crate) async fn read(path: &Path) -> Seen {
    let read = async {
        let mut bytes = Vec::new();
        let most = POLICY_BYTES_MAX as u64 + 1;
        File::open(path)
            .await?
            .take(most)
            .read_to_end(&mut bytes)
            .await?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read
        .await
        .map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not text in UTF-8 (byte {at})")
    })
}
