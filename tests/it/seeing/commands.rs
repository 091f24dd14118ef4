//! What all commands have in common.

use super::plan::BASE;
use super::{Desk, run, run_with};

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

/// As `loginsync completions bash | head -1` has it, or a disk that is full.
#[test]
fn an_output_that_takes_no_more_is_no_panic() {
    use std::process::{Command, Stdio};
    let desk = Desk::new();
    let config = desk.file("app.toml", BASE);
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["check", "--config", &config],
        &["lint", "--config", &config],
        &["user", "list", "--json", "--config", &config],
    ] {
        let expected = run(arguments).code;
        let with = |output: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
            let output = command.args(arguments).stdout(output).stderr(Stdio::piped()).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, said) = with(writer.into());
        assert!(code == Some(expected) && !said.contains("standard output"), "{arguments:?}: {said}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = with(full.into());
        assert!(code == Some(1) && said.contains("cannot write to standard output"), "{arguments:?}: {said}");
    }
}

#[test]
fn every_command_has_a_man_page_and_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("not/yet/there");
    let to = directory.to_str().unwrap();
    let said = run(&["man", to]);
    assert_eq!(said.code, 0, "{said:?}");
    for page in ["loginsync.1", "loginsync-explain.1", "loginsync-user-rekey.1"] {
        assert!(std::fs::read_to_string(directory.join(page)).unwrap().contains(".SH"), "{page}");
    }
    let nowhere = run(&["man", "/dev/null/pages"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("/dev/null/pages"), "{nowhere:?}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(run_with(&["completions", shell], "").out.contains("explain"), "{shell}");
    }
}
