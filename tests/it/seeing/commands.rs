//! What all commands have in common.

use super::{run, run_with};

#[test]
fn see05_wrong_usage_alone_is_exit_code_2() {
    for arguments in [&["explian"][..], &["plan", "--limit", "many"], &["user", "show"], &["check", "--nothing"]] {
        assert_eq!(run(arguments).code, 2, "{arguments:?}");
    }
    let help = run(&["--help"]);
    assert!(help.code == 0 && help.out.contains("2  wrong usage") && help.out.contains("3  refused"), "{help:?}");
}

#[test]
fn the_configuration_is_where_packages_put_it() {
    let help = run(&["check", "--help"]).out;
    assert!(help.contains("[default: /etc/loginsync/loginsync.toml]"), "{help}");
}

/// As `loginsync completions bash | head -1` has it.
#[test]
fn a_closed_standard_output_is_no_panic() {
    use std::process::{Command, Stdio};
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_loginsync"))
            .args(arguments)
            .stdout(Stdio::from(writer))
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("standard output"), "{said}");
    }
}

#[test]
fn every_command_has_a_man_page_and_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().to_str().unwrap();
    let said = run(&["man", to]);
    assert_eq!(said.code, 0, "{said:?}");
    for page in ["loginsync.1", "loginsync-explain.1", "loginsync-user-rekey.1"] {
        assert!(std::fs::read_to_string(directory.path().join(page)).unwrap().contains(".SH"), "{page}");
    }
    let nowhere = run(&["man", "/nowhere/at/all"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("/nowhere/at/all"), "{nowhere:?}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(run_with(&["completions", shell], "").out.contains("explain"), "{shell}");
    }
}
