//! What `--version` tells of the build.

use std::path::Path;
use std::process::Command;

use crate::seeing::run;

#[test]
fn the_program_tells_its_version() {
    let said = run(&["--version"]);
    assert_eq!((said.code, said.out.trim()), (0, concat!("loginsync ", env!("LOGINSYNC_VERSION"))));
    assert!(said.out.starts_with(concat!("loginsync ", env!("CARGO_PKG_VERSION"))), "{said:?}");
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let own = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").current_dir(folder).args(own).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The build script alone, over a repository of its own.
#[test]
fn a_release_build_names_its_commit() {
    let work = tempfile::tempdir().unwrap();
    let (source, inner) = (work.path().join("source"), work.path().join("source/inner"));
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::write(source.join("file"), "1").unwrap();
    git(&source, &["init", "--quiet"]);
    git(&source, &["add", "file"]);
    git(&source, &["commit", "--quiet", "--message", "test"]);
    let commit = git(&source, &["rev-parse", "HEAD"]);

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let built = |folder: &Path, profile: &str, named: Option<&str>| {
        let program = work.path().join("script");
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-o"]).arg(&program).arg(&script);
        let compiled = rustc.env("CARGO_PKG_VERSION", "1.2.3").env("CARGO_MANIFEST_DIR", folder).status().unwrap();
        assert!(compiled.success());
        let mut run = Command::new(&program);
        run.current_dir(folder).env("PROFILE", profile).env_remove("LOGINSYNC_COMMIT");
        let output = run.envs(named.map(|named| ("LOGINSYNC_COMMIT", named))).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let told: Vec<&str> = output
            .lines()
            .filter_map(|line| line.split_once("cargo:rustc-env=LOGINSYNC_VERSION="))
            .map(|it| it.1)
            .collect();
        let [told] = told[..] else { panic!("{output}") };
        assert!(output.lines().all(|line| line.starts_with("cargo:rerun-if-") || line.ends_with(told)), "{output}");
        told.to_owned()
    };
    assert_eq!(built(&source, "release", None), format!("1.2.3 ({commit})"));
    assert_eq!(built(&source, "debug", None), "1.2.3");
    assert_eq!(built(&inner, "release", None), "1.2.3", "it lies in a repository of other files");
    assert_eq!(built(work.path(), "release", None), "1.2.3", "without a repository");
    assert_eq!(built(work.path(), "debug", Some("abc123\n")), "1.2.3 (abc123)");
    assert_eq!(built(&source, "release", Some("a\ncargo:rustc-env=OTHER=1")), "1.2.3");
    std::fs::write(source.join("file"), "2").unwrap();
    assert_eq!(built(&source, "release", None), format!("1.2.3 ({commit} with changes)"));
}
