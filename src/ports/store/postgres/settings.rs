//! What the store keeps by name, apart from users.

use super::pipe::{Statement, values};

pub(super) fn set(name: &str, value: Vec<u8>) -> Statement {
    Statement {
        text: "INSERT INTO loginsync.settings (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            .into(),
        values: values![name, value],
    }
}
