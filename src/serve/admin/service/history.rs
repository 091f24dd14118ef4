//! What has happened, the newest first: the audit read backwards.

use super::{Refused, Service};
use crate::ports::store::AuditRow;

/// Rows that one call looks at, where a filter drops most of them.
pub const SCANNED: usize = 10_000;
/// Rows that are read at a time.
const STRIDE: i64 = 1_000;

/// Some rows, the newest first.
#[derive(Debug, Default)]
pub struct Backwards {
    pub rows: Vec<AuditRow>,
    /// Where to go on; `None`: there is nothing older. With a filter a page may be short, or empty, and yet not be the last.
    pub before: Option<i64>,
}

impl Service {
    /// Rows before a sequence number, or the newest, of those that `takes` takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit_backwards(
        &self,
        before: Option<i64>,
        most: usize,
        takes: impl Fn(&AuditRow) -> bool + Send,
    ) -> Result<Backwards, Refused> {
        let store = self.inspect.store();
        let newest = store.audit_head().await?.map_or(1, |(newest, _)| newest.saturating_add(1));
        // Past the newest there is nothing to walk through.
        let mut before = before.map_or(newest, |before| before.min(newest));
        let (mut found, mut scanned) = (Vec::new(), 0);
        while before > 1 {
            let after = before.saturating_sub(STRIDE + 1).max(0);
            let mut rows = store.audit(after, usize::try_from(STRIDE).unwrap_or(usize::MAX)).await?;
            rows.retain(|row| row.sequence < before);
            scanned += rows.len();
            for row in rows.into_iter().rev() {
                if found.len() == most {
                    return Ok(Backwards { rows: found, before: Some(row.sequence + 1) });
                }
                if takes(&row) {
                    found.push(row);
                }
            }
            before = after + 1;
            if scanned >= SCANNED {
                return Ok(Backwards { rows: found, before: Some(before).filter(|before| *before > 1) });
            }
        }
        Ok(Backwards { rows: found, before: None })
    }
}
