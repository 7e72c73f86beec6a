//! Programs of others, and scripts of these tests in other languages.

use std::process::Command;

/// Runs a program that must succeed; returns what it printed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let [out, errors] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{program} {arguments:?}: {out}{errors}");
    out
}

/// The same for a script of `tests/interop`, run by this program.
#[track_caller]
pub fn script(program: &str, script: &str, arguments: &[&str]) -> String {
    let script = format!("{}/tests/interop/{script}", env!("CARGO_MANIFEST_DIR"));
    run(program, &[&[script.as_str()], arguments].concat())
}
