//! `Accept-Encoding`: whether an answer may come compressed.

/// What a client says of the codings that matter here, in thousandths; `None` where it says
/// nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Codings {
    gzip: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl Codings {
    /// Takes in a header line; several are one list. What is no coding is passed over, since the
    /// client can do without.
    pub(super) fn read(&mut self, value: &[u8]) {
        for element in value.split(|&b| b == b',') {
            let mut parts = element.split(|&b| b == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
            let slot = if is(b"gzip") || is(b"x-gzip") {
                &mut self.gzip
            } else if is(b"identity") {
                &mut self.identity
            } else if is(b"*") {
                &mut self.any
            } else {
                continue;
            };
            *slot = Some(parts.next().map_or(1_000, weight));
        }
    }

    /// Whether gzip is taken, and not less gladly than the bytes as they are.
    pub(super) fn prefer_gzip(self) -> bool {
        let gzip = self.gzip.or(self.any).unwrap_or(0);
        gzip > 0 && gzip >= self.identity.unwrap_or(0)
    }
}

/// The weight that `q=0.5` gives; one that cannot be read is none.
fn weight(parameter: &[u8]) -> u16 {
    let digits = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    let Some([whole @ (b'0' | b'1'), rest @ ..]) = digits else { return 0 };
    let fraction = rest.strip_prefix(b".").unwrap_or_default();
    let thousandth = |at: usize| fraction.get(at).filter(|b| b.is_ascii_digit());
    let fraction = (0..3)
        .fold(0, |sum, at| 10 * sum + thousandth(at).map_or(0, |digit| u16::from(digit - b'0')));
    (u16::from(whole - b'0') * 1_000 + fraction).min(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_welcome() {
        let prefers = |lines: &[&str]| {
            let mut codings = Codings::default();
            lines.iter().for_each(|line| codings.read(line.as_bytes()));
            codings.prefer_gzip()
        };
        for good in [
            "gzip",
            "GZIP",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0, gzip;q=0.8, *;q=0.1",
            "*",
            "gzip;q=0.001",
            "identity;q=0.5, gzip;q=0.5",
            "identity;q=0, gzip",
            ",, gzip ;q=1",
        ] {
            assert!(prefers(&[good]), "{good}");
        }
        for bad in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip;q=0.000, *",
            "*;q=0",
            "identity, gzip;q=0.9",
            "gzip;q=x",
            "gzip;level=9",
            "gzipped",
        ] {
            assert!(!prefers(&[bad]), "{bad}");
        }
        assert!(prefers(&["br", "gzip"]) && !prefers(&["gzip", "gzip;q=0"]));
    }
}
