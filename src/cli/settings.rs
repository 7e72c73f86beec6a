//! What an agent runs with and where each setting came from, in one line of its log; and warnings
//! about what leaves it open to others.
//!
//! The texts are those that were given, so that a line can be compared with a unit or a task
//! definition. A secret is shown by its fingerprint.

use super::certificates::date;
use super::config::{AgentConfig, AgentFlags, KEYS_VARIABLE, LOG_LEVEL_VARIABLE, SRV_VARIABLE};
use super::failure::one_line;
use super::front::TOKEN_VARIABLE;
use super::identity::Identity;
use super::reader::variable_of;
use crate::http::TokenList;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Variables that are no flag's, each with the flag that it stands in for and whether it is shown.
const STAND_INS: [(&str, &str, bool); 4] = [
    (SRV_VARIABLE, "discover_srv", true),
    (LOG_LEVEL_VARIABLE, "log_level", true),
    (KEYS_VARIABLE, "encrypt_keys_file", false),
    (TOKEN_VARIABLE, "http_token_file", false),
];
/// The flags that name files of secrets.
const SECRET_FILES: [&str; 3] = ["encrypt_keys_file", "http_token_file", "http_tls_key"];

/// Every effective setting as `name=value`, by where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    flags: Vec<String>,
    variables: Vec<String>,
    /// What the files of secrets hold, as fingerprints.
    files: Vec<String>,
    /// What the host or ECS tells.
    found: Vec<String>,
    defaults: Vec<String>,
}

/// Collects them. `variable` looks up the variables that are no flag's.
pub(super) fn collect(
    matches: &ArgMatches,
    config: &AgentConfig,
    identity: &Identity,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Settings {
    let mut settings = Settings::default();
    let command = AgentFlags::augment_args(clap::Command::new("agent"));
    for id in command.get_arguments().map(|arg| arg.get_id().as_str()) {
        let values = matches.get_raw(id).map(|values| values.collect::<Vec<_>>());
        let given = values.map(|values| values.join(OsStr::new(",")));
        let stand_in = STAND_INS
            .into_iter()
            .find(|(name, of, _)| *of == id && variable(name).is_some() && given.is_none());
        if let Some((name, _, is_shown)) = stand_in {
            let value = variable(name).filter(|_| is_shown);
            let value = value.map_or_else(|| secret(id, config), |value| text(&value));
            settings.variables.push(format!("{name}={value}"));
            continue;
        }
        match (id, given) {
            ("name", None) => settings.found.push(format!("name={}", word(&identity.name))),
            ("advertise", None) => settings.found.push(format!("advertise={}", identity.advertise)),
            ("log_level", None) => {
                settings.defaults.push(format!("log-level={}", config.log.level));
            }
            (_, None) => settings.defaults.push(format!("{}=", flag(id))),
            (_, Some(value)) => settings.given(matches, id, &text(&value), config),
        }
    }
    settings
}

impl Settings {
    fn given(&mut self, matches: &ArgMatches, id: &str, value: &str, config: &AgentConfig) {
        match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => {
                self.variables.push(format!("{}={value}", variable_of(id)));
            }
            Some(ValueSource::CommandLine) => self.flags.push(format!("--{}={value}", flag(id))),
            _ => self.defaults.push(format!("{}={value}", flag(id))),
        }
        if let Some((certificate, _)) = config.front.tls.as_ref().filter(|_| id == "http_tls_cert")
        {
            self.files.push(format!("{value}=[expires {}]", date(certificate.expires())));
        } else if SECRET_FILES.contains(&id) && id != "http_tls_key" {
            self.files.push(format!("{value}={}", secret(id, config)));
        }
    }

    /// Writes the line.
    pub(super) fn tell(&self) {
        let part = |part: &[String]| (!part.is_empty()).then(|| part.join(" "));
        tracing::info!(
            flags = part(&self.flags),
            variables = part(&self.variables),
            files = part(&self.files),
            found = part(&self.found),
            defaults = part(&self.defaults),
            "settings"
        );
    }
}

fn flag(id: &str) -> String {
    id.replace('_', "-")
}

fn text(value: &OsStr) -> String {
    word(&value.to_string_lossy())
}

/// In quotes where a blank would make two of one.
fn word(text: &str) -> String {
    let is_plain = !text.contains(|char: char| char.is_whitespace() || char == '"');
    if is_plain { one_line(text) } else { format!("{text:?}") }
}

fn secret(id: &str, config: &AgentConfig) -> String {
    let keys = config.keyring.keys().iter().map(|key| key.fingerprint().to_owned());
    let prints: Vec<String> = match id {
        "encrypt_keys_file" => keys.collect(),
        _ => config.front.tokens.iter().flat_map(TokenList::shown).collect(),
    };
    format!("[{}]", prints.join(","))
}

/// What others can reach or read that they perhaps should not, a line each.
pub(super) fn warnings(matches: &ArgMatches, config: &AgentConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let tls = config.front.tls.as_ref().map(|(_, files)| files);
    let asks = config.front.tokens.is_some() || tls.is_some_and(|tls| tls.client_ca.is_some());
    if !config.http.ip().is_loopback() && !asks {
        let plain = if tls.is_some() { "" } else { ", in plain text; see --http-tls-cert" };
        warnings.push(format!(
            "HTTP is open to everybody who reaches {}: there is no token, so all may read and \
             write every key; give --http-token-file{plain}",
            config.http
        ));
    }
    for id in SECRET_FILES {
        let path = matches.get_raw(id).and_then(|mut paths| paths.next());
        let readable = path.and_then(readable_by_others);
        if let (Some(path), Some(mode)) = (path, readable) {
            warnings.push(format!(
                "every user of this machine can read {path:?} (--{}, mode {mode:04o}); chmod o-r",
                flag(id)
            ));
        }
    }
    let is_open = config.label.is_empty() && config.keyring.is_empty();
    if is_open && !config.bind.ip().is_loopback() {
        warnings.push(
            "there is neither a gossip key nor a label: when a node of another such cluster gets \
             an address that this one looks for, the two become one; give --label"
                .to_owned(),
        );
    }
    warnings
}

/// The mode of a file that every user may read.
fn readable_by_others(path: &OsStr) -> Option<u32> {
    let mode = std::fs::metadata(Path::new(path)).ok()?.permissions().mode() & 0o7777;
    (mode & 0o004 != 0).then_some(mode)
}
