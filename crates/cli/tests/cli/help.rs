//! Help screens, word for word.

use std::os::unix::fs::symlink;

use super::{keel, run, said};

const COMMANDS: [&str; 17] = [
    "daemon",
    "ingress",
    "build",
    "deploy",
    "rollback",
    "ls",
    "ps",
    "logs",
    "inspect",
    "scale",
    "restart",
    "stats",
    "releases",
    "rm",
    "images",
    "version",
    "completions",
];

#[test]
fn the_short_help_is_one_screen() {
    let said = run(&["-h"]);
    assert_eq!(said.code, 0);
    assert!(said.out.lines().count() <= 45, "{}", said.out);
    insta::assert_snapshot!(said.out);
}

#[test]
fn the_long_help_starts_with_an_example() {
    assert!(run(&["--help"]).out.starts_with("Example:\n  keel "));
    for command in COMMANDS.iter().filter(|c| !matches!(**c, "version" | "completions")) {
        let said = run(&[command, "--help"]);
        assert!(said.out.starts_with("Example:\n  keel "), "{command}: {}", said.out);
    }
}

#[test]
fn every_command_has_its_screen() {
    let screens = COMMANDS.map(|command| {
        let said = run(&[command, "-h"]);
        assert_eq!(said.code, 0, "{command}");
        format!("$ keel {command} -h\n{}", said.out)
    });
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn called_as_the_guides_script_it_is_that_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("swarm-deploy");
    symlink(env!("CARGO_BIN_EXE_keel"), &script).expect("a link");
    let help = std::process::Command::new(&script).arg("-h").output().expect("runs");
    insta::assert_snapshot!(said(help).out);
    let bare = std::process::Command::new(&script).current_dir(folder.path()).output();
    let bare = said(bare.expect("runs"));
    assert_eq!(bare.code, 2);
    assert!(bare.err.contains("no docker-stack.yml in this folder"), "{}", bare.err);
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run(&["completions", shell]);
        assert!(said.code == 0 && said.out.contains("rollback"), "{shell}");
    }
}

#[test]
fn without_a_command_the_help_is_an_error() {
    let said = super::said(keel(&[]).output().expect("runs"));
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("Usage: keel"), "{}", said.err);
}
