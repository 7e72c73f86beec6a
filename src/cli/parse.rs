//! Text to values, for flags and variables. An error says what was wrong, not where.

use crate::discovery::Seed;
use crate::http::{Token, TokenList};
use crate::limits::{LABEL_LEN_MAX, NODE_NAME_LEN_MAX};
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// What others dial: an address, and a port when it is not the one we bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advertise {
    pub(super) ip: IpAddr,
    pub(super) port: Option<u16>,
}

/// `ADDR:PORT` to gossip at.
pub(super) fn gossip_addr(text: &str) -> Result<SocketAddr, String> {
    not_link_local(text)?;
    socket_addr(text)
}

/// Seeds separated by commas; empty ones count for nothing.
pub(super) fn seeds(text: &str) -> Result<Vec<Seed>, String> {
    text.split(',').map(str::trim).try_for_each(not_link_local)?;
    words(text)
}

/// Refuses a link-local IPv6 address, with a zone or without, and says why it will not do: members
/// tell each other 16 bytes, and a zone is a number of one host.
fn not_link_local(text: &str) -> Result<(), String> {
    let host = text.strip_prefix('[').map_or(text, |rest| rest.split(']').next().unwrap_or(rest));
    let bare = host.split('%').next().unwrap_or(host);
    let is_link_local = bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local());
    if is_link_local {
        return Err(format!(
            "{text:?} is a link-local address: it means something on one link of one host only, \
             and gossip tells no zone; give a global address or a unique local one (fd00::/8)"
        ));
    }
    Ok(())
}

/// `ADDR:PORT`; port 0 lets the system choose.
pub(super) fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not ADDR:PORT, for example 0.0.0.0:7947 or [::]:7947"))
}

/// `ADDR[:PORT]` of a DNS server.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    const DNS_PORT: u16 = 53;
    let (ip, port) = ip_and_port(text)
        .ok_or_else(|| format!("{text:?} is not ADDR:PORT, for example 10.0.0.2:53"))?;
    Ok(SocketAddr::new(ip, port.unwrap_or(DNS_PORT)))
}

/// `ADDR[:PORT]` that somebody can dial.
pub(super) fn advertise(text: &str) -> Result<Advertise, String> {
    not_link_local(text)?;
    let (ip, port) = ip_and_port(text)
        .ok_or_else(|| format!("{text:?} is not ADDR or ADDR:PORT, for example 10.0.0.5:7947"))?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("nobody can dial {ip}"));
    }
    Ok(Advertise { ip, port })
}

/// The port, when there is one, is not 0.
fn ip_and_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return (addr.port() != 0).then(|| (addr.ip(), Some(addr.port())));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(text).parse().ok()?;
    (bare.is_none() || ip.is_ipv6()).then_some((ip, None))
}

/// The name of a member.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NODE_NAME_LEN_MAX {
        return Err(format!("a name has 1 to {NODE_NAME_LEN_MAX} bytes, not {}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("a name has no control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// The name of a cluster; empty for none.
pub(super) fn label(text: &str) -> Result<String, String> {
    if text.len() > LABEL_LEN_MAX {
        return Err(format!("a label has at most {LABEL_LEN_MAX} bytes, not {}", text.len()));
    }
    Ok(text.to_owned())
}

/// Labels separated by commas; an empty one counts.
pub(super) fn labels(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(label).collect()
}

/// Something with a parser of its own, in a list of one.
pub(super) fn word<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// Words separated by commas; empty ones count for nothing.
pub(super) fn words<T: FromStr<Err: Display>>(text: &str) -> Result<Vec<T>, String> {
    let given = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for text in given {
        match word(text) {
            Ok(value) => found.push(value),
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong.join("; ")) }
}

/// `auto` for none, or such a number.
pub(super) fn number_or_auto(
    text: &str,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    number(text, range).map(Some).map_err(|why| format!("{why}, nor auto"))
}

/// A whole number of a range.
pub(super) fn number(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!("{text:?} is not a number from {} to {}", range.start(), range.end())
    })
}

/// A length of time with its unit.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no duration such as 90s, 5m or 24h: {error}"))?;
    if !range.contains(&duration) {
        let [min, max] = [range.start(), range.end()].map(|bound| written(*bound));
        return Err(format!("{text:?} is not between {min} and {max}"));
    }
    Ok(duration)
}

/// A bound in the largest unit that divides it, as it would be given: `365d`, not in months.
fn written(bound: Duration) -> String {
    let seconds = bound.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("m", 60)];
    let unit = units.into_iter().find(|(_, len)| seconds >= *len && seconds.is_multiple_of(*len));
    match unit {
        Some((unit, len)) => format!("{}{unit}", seconds / len),
        None => humantime::format_duration(bound).to_string(),
    }
}

/// A pause between two of many, at least a second; none stands for never.
pub(super) fn interval(text: &str) -> Result<Option<Duration>, String> {
    const LEAST: Duration = Duration::from_secs(1);
    let interval = duration(text, Duration::ZERO..=Duration::from_secs(3600))?;
    if !interval.is_zero() && interval < LEAST {
        return Err(format!("{text:?} is neither 0s, for never, nor at least a second"));
    }
    Ok(Some(interval).filter(|interval| !interval.is_zero()))
}

/// A switch.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// One of a few names.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

/// How much is logged.
pub(super) fn log_level(text: &str) -> Result<LevelFilter, String> {
    let text = if text.eq_ignore_ascii_case("warning") { "warn" } else { text };
    choice(
        text,
        &[
            ("off", LevelFilter::OFF),
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ],
    )
}

/// A bearer token as a server keeps it. An error never shows it.
pub(super) fn token(text: &str) -> Result<Token, String> {
    Token::new(text).map_err(|error| error.to_string())
}

/// The tokens of a file. An error names the line and shows nothing of it.
pub(super) fn tokens(text: &str) -> Result<TokenList, String> {
    TokenList::parse(text).map_err(|error| error.to_string())
}

/// A bearer token as a client sends it.
pub(super) fn bearer(text: &str) -> Result<String, String> {
    token(text).map(|_| text.trim().to_owned())
}

/// The same of a file: of several that a server keeps, the first of those that may most.
pub(super) fn bearer_of_file(text: &str) -> Result<String, String> {
    tokens(text).map(|tokens| tokens.strongest().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(socket_addr("[::]:7947"), Ok("[::]:7947".parse().unwrap()));
        assert!(socket_addr("7947").unwrap_err().contains("ADDR:PORT"));
        assert_eq!(dns_server("10.0.0.2"), Ok("10.0.0.2:53".parse().unwrap()));
        assert_eq!(dns_server("[::1]:5353"), Ok("[::1]:5353".parse().unwrap()));
        assert!(dns_server("10.0.0.2:0").is_err());
        let with_port = Advertise { ip: "10.0.0.5".parse().unwrap(), port: Some(9) };
        assert_eq!(advertise("10.0.0.5:9"), Ok(with_port));
        assert_eq!(advertise("[::1]").map(|a| a.port), Ok(None));
        for wrong in ["0.0.0.0", "[::]:9", "224.0.0.1", "[10.0.0.5]", "10.0.0.5:0", "host"] {
            assert!(advertise(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn link_local_addresses_will_not_do_and_it_says_why() {
        let why = |error: String| assert!(error.contains("(fd00::/8)"), "{error}");
        for text in ["fe80::1%eth0", "[fe80::1%eth0]:7947", "[fe80::1%3]:7947", "fe80::1"] {
            why(gossip_addr(text).unwrap_err());
            why(advertise(text).unwrap_err());
            why(seeds(&format!("10.0.0.1, {text}")).unwrap_err());
        }
        assert!(gossip_addr("[fd00::1]:7947").is_ok() && gossip_addr("[::]:7947").is_ok());
        assert!(advertise("fd00::1").is_ok() && seeds("fd00::1,node").is_ok());
    }

    #[test]
    fn names_and_labels() {
        assert_eq!(node_name("ip-10-0-0-5"), Ok("ip-10-0-0-5".to_owned()));
        assert!(node_name("").is_err() && node_name("a\nb").is_err());
        assert!(node_name(&"a".repeat(NODE_NAME_LEN_MAX)).is_ok());
        assert!(node_name(&"a".repeat(NODE_NAME_LEN_MAX + 1)).is_err());
        assert_eq!(labels("a,,b").map(|labels| labels.join("|")).as_deref(), Ok("a||b"));
        assert!(labels(&format!("a,{}", "b".repeat(LABEL_LEN_MAX + 1))).is_err());
        assert!(label("").is_ok() && label(&"a".repeat(LABEL_LEN_MAX + 1)).is_err());
    }

    #[test]
    fn lists_name_every_wrong_word() {
        let seeds: Vec<Seed> = words(" 10.0.0.1, node:9,,").unwrap();
        assert_eq!(
            seeds.iter().map(Seed::to_string).collect::<Vec<_>>(),
            ["10.0.0.1:7947", "node:9"]
        );
        let error = words::<Seed>("a:0,ok,b c").unwrap_err();
        assert!(error.contains("\"a:0\": ") && error.contains("\"b c\": "), "{error}");
    }

    #[test]
    fn durations_need_a_unit_and_a_range() {
        let day = Duration::from_secs(86_400);
        let range = Duration::from_secs(1)..=day;
        assert_eq!(duration("24h", range.clone()), Ok(day));
        assert_eq!(duration("1m 30s", range.clone()), Ok(Duration::from_secs(90)));
        assert!(duration("5", range.clone()).unwrap_err().contains("no duration"));
        let error = duration("2d", range).unwrap_err();
        assert_eq!(error, "\"2d\" is not between 1s and 1d");
        let year = Duration::from_secs(1)..=365 * day;
        assert_eq!(duration("0s", year).unwrap_err(), "\"0s\" is not between 1s and 365d");
    }

    #[test]
    fn numbers_switches_and_choices() {
        assert_eq!(number("7", 1..=9), Ok(7));
        assert!(number("0", 1..=9).is_err() && number("x", 1..=9).is_err());
        assert!(number("-1", 0..=u64::MAX).is_err());
        assert_eq!((boolean("TRUE"), boolean("0")), (Ok(true), Ok(false)));
        assert!(boolean("yes").is_err());
        assert_eq!(log_level("Warning"), Ok(LevelFilter::WARN));
        assert_eq!(
            log_level("loud").unwrap_err(),
            "\"loud\" is none of off, error, warn, info, debug, trace"
        );
    }

    #[test]
    fn a_wrong_token_is_not_shown() {
        assert_eq!(bearer(" secret\n"), Ok("secret".to_owned()));
        for wrong in ["", "  \n", "two words", "caf\u{e9}"] {
            let error = bearer(wrong).unwrap_err();
            assert!(wrong.trim().is_empty() || !error.contains(wrong.trim()), "{error}");
        }
    }
}
