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
    let missing = run(&["check"]);
    assert!(missing.code == 1 && missing.err.contains("/etc/loginsync/loginsync.toml"), "{missing:?}");
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
