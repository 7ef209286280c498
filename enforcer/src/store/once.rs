//! Which records of the trail were obeyed of those that count once: each id once, for ever.

use sqlx::Row as _;

use super::{Store, StoreError};
use crate::decision::Origin;

impl Store {
    /// Whether the command of this id is to be obeyed as the record at `origin` has it: nobody has obeyed another record
    /// of that id. The answer is the same each time.
    pub(crate) async fn is_first(&self, id: &str, origin: &Origin) -> Result<bool, StoreError> {
        sqlx::query(
            "INSERT INTO enforcer_once (id, log_partition, log_offset) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(id)
        .bind(origin.partition)
        .bind(origin.offset)
        .execute(&self.pool)
        .await?;
        let row = sqlx::query("SELECT log_partition, log_offset FROM enforcer_once WHERE id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await?;
        let partition: i32 = row.try_get("log_partition")?;
        let offset: i64 = row.try_get("log_offset")?;
        Ok((partition, offset) == (origin.partition, origin.offset))
    }
}
