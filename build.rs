//! Tells the program which commit it is and when that was: `GOSSIPYKV_BUILD_HASH` and
//! `GOSSIPYKV_BUILD_DATE` for `env!`.
//!
//! The environment wins over git, and without either both are "unknown". Only the commit counts,
//! never the clock, so the same source gives the same program.
#![expect(clippy::disallowed_methods, reason = "cargo talks to build scripts by variables")]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    for variable in ["GOSSIPYKV_BUILD_HASH", "GOSSIPYKV_BUILD_DATE", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    let in_git = is_own_repository();
    if in_git {
        watch_commits();
    }
    let from_git = |args: &[&str]| if in_git { git(args) } else { None };
    let hash = variable("GOSSIPYKV_BUILD_HASH")
        .or_else(|| from_git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(unknown);
    let date = variable("GOSSIPYKV_BUILD_DATE")
        .or_else(|| variable("SOURCE_DATE_EPOCH")?.parse().ok().and_then(utc))
        .or_else(|| from_git(&["log", "-1", "--format=%ct"])?.parse().ok().and_then(utc))
        .unwrap_or_else(unknown);
    println!("cargo::rustc-env=GOSSIPYKV_BUILD_HASH={hash}");
    println!("cargo::rustc-env=GOSSIPYKV_BUILD_DATE={date}");
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// A variable that says something: one line, not empty.
fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty() && !value.contains('\n')).then(|| value.to_owned())
}

/// False for an unpacked archive that merely lies inside somebody else's repository.
fn is_own_repository() -> bool {
    let here =
        env::var("CARGO_MANIFEST_DIR").ok().and_then(|dir| Path::new(&dir).canonicalize().ok());
    let top =
        git(&["rev-parse", "--show-toplevel"]).and_then(|dir| Path::new(&dir).canonicalize().ok());
    here.is_some() && here == top
}

/// Runs again when another commit is checked out; the log of HEAD grows with each.
fn watch_commits() {
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Seconds since the Unix epoch as `2026-01-31T12:00:00Z`; `None` past the year 9999.
///
/// The date is reckoned in years that begin on March 1, so that the leap day comes last.
fn utc(seconds: u64) -> Option<String> {
    const DAYS_BEFORE_EPOCH: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let (days, second_of_day) = (seconds / 86_400 + DAYS_BEFORE_EPOCH, seconds % 86_400);
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let (month, next_year) =
        if march_month < 10 { (march_month + 3, 0) } else { (march_month - 9, 1) };
    let year = era * 400 + year_of_era + next_year;
    let (hour, minute, second) =
        (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    (year <= 9_999)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}
