//! `loginsync db status`.

use std::collections::BTreeSet;

use super::super::{ConfigArgument, Failure, block_on, print_json};
use crate::app;
use crate::ports::store::sqlite::transfer::Role;
use crate::ports::store::transfer::{Replica, Rows, Standby, Status};

pub(super) fn run(config: &ConfigArgument, json: bool) -> Result<(), Failure> {
    let config = config.load()?;
    let status = block_on(async {
        let side = app::side(&config, Role::Look).await.map_err(Failure::new)?;
        side.status().await.map_err(Failure::new)
    })?;
    if json {
        return print_json(&status);
    }
    print(&status);
    Ok(())
}

fn print(status: &Status) {
    let Status {
        kind,
        name,
        server,
        schema,
        bytes,
        rows,
        unsealed,
        unsealed_ms,
        replicas,
        synchronous,
        standbys,
        moved,
    } = status;
    let line = |what: &str, value: &dyn std::fmt::Display| say!("{what:<12} {value}");
    line("database", name);
    match server {
        Some(version) => line("kind", &format!("{kind} {version}")),
        None => line("kind", kind),
    }
    match schema {
        0 => line("schema", &"there are no tables yet"),
        version => line("schema", version),
    }
    line("size", &format!("{:.1} MB", *bytes as f64 / 1e6));
    if let Some(why) = moved {
        line("not in use", why);
    }
    for Rows { table, rows } in rows {
        line(table, rows);
    }
    let Some(is_synchronous) = synchronous else { return };
    let seconds = *unsealed_ms as f64 / 1000.0;
    line("sealing", &format!("{unsealed} audit rows wait for a seal, the oldest for {seconds:.1} s"));
    for Replica { name, version, file, started_at, ahead_ms } in replicas {
        line("replica", &format!("{name}: version {version}, file {file}, since {started_at}, clock {ahead_ms:+} ms"));
    }
    let files: BTreeSet<&str> = replicas.iter().map(|replica| replica.file.as_str()).collect();
    if files.len() > 1 {
        line("files", &format!("{} different configurations are live", files.len()));
    }
    for Standby { name, state, sync, behind_bytes } in standbys {
        let behind = behind_bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes behind"));
        line("standby", &format!("{name}: {state}, {sync}{behind}"));
    }
    line(
        "commits",
        &match is_synchronous {
            true => "synchronous: a login that was answered survives the loss of this server",
            false => "not synchronous: the loss of this server can lose logins that were answered",
        },
    );
}
