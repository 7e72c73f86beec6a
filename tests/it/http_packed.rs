//! Lists that come compressed to whoever asks for that.

use super::http_rig::{Answer, Rig};
use flate2::read::GzDecoder;
use std::io::Read as _;

const GZIP: &str = "Accept-Encoding: gzip, deflate, br\r\n";
const LIST: &str = "/kv/?prefix=k";

fn filled(value: &[u8]) -> Rig {
    let rig = Rig::new();
    for n in 0..100 {
        rig.send("PUT", &format!("/kv/k{n:03}"), "", value).is(200);
    }
    rig
}

fn unpacked(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(&answer.body[..]).read_to_end(&mut bytes).expect("gzip");
    bytes
}

#[test]
fn a_list_comes_compressed_to_whoever_asks() {
    let rig = filled(b"the same value over and over");
    let plain = rig.send("GET", LIST, "", b"").is(200);
    assert_eq!(plain.header("Content-Encoding"), None);
    assert_eq!(plain.header("Vary"), Some("Accept-Encoding"));
    let packed = rig.send("GET", LIST, GZIP, b"").is(200);
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert_eq!(packed.header("Vary"), Some("Accept-Encoding"));
    assert_eq!(packed.header("Content-Type"), Some("application/json"));
    assert!(4 * packed.body.len() < plain.body.len(), "{}", packed.body.len());
    assert_eq!(unpacked(&packed), plain.body);
    // HEAD tells the same.
    let head = rig.send("HEAD", LIST, GZIP, b"").is(200);
    for name in ["Content-Length", "Content-Encoding", "ETag", "Vary"] {
        assert_eq!(head.header(name), packed.header(name), "{name}");
    }
    for target in ["/kv/?keys", "/kv/?delimiter=%7C", "/kv/?since=t0&wait=1s"] {
        let packed = rig.send("GET", target, GZIP, b"").is(200);
        assert_eq!(packed.header("Content-Encoding"), Some("gzip"), "{target}");
        assert!(unpacked(&packed).starts_with(b"{\"items\":["), "{target}");
    }
}

#[test]
fn its_tag_is_another_and_good_for_both_forms() {
    let rig = filled(b"value");
    let tag = |headers: &str| {
        let answer = rig.send("GET", LIST, headers, b"").is(200);
        answer.header("ETag").expect("a tag").to_owned()
    };
    let (plain, packed) = (tag(""), tag(GZIP));
    assert_eq!(packed, format!("{}-gzip\"", plain.trim_end_matches('"')));
    for (known, accepts, expected) in
        [(&plain, "", &plain), (&packed, GZIP, &packed), (&packed, "", &plain)]
    {
        let headers = format!("{accepts}If-None-Match: {known}\r\n");
        let same = rig.send("GET", LIST, &headers, b"").is(304);
        assert_eq!(same.header("ETag"), Some(expected.as_str()));
        assert_eq!(same.header("Vary"), Some("Accept-Encoding"));
    }
    rig.send("PUT", "/kv/k000", "", b"another").is(200);
    rig.send("GET", LIST, &format!("{GZIP}If-None-Match: {packed}\r\n"), b"").is(200);
}

#[test]
fn what_is_short_very_long_or_no_list_stays_as_it_is() {
    let rig = filled(b"value");
    rig.send("PUT", "/kv/long", "", &[b'v'; 100_000]).is(200);
    for target in ["/kv/?limit=1", "/kv/?count", "/kv/long", "/members", "/"] {
        let answer = rig.send("GET", target, GZIP, b"");
        assert_eq!(answer.header("Content-Encoding"), None, "{target}");
    }
    for refused in ["Accept-Encoding: gzip;q=0\r\n", "Accept-Encoding: identity\r\n"] {
        let answer = rig.send("GET", LIST, refused, b"").is(200);
        assert_eq!(answer.header("Content-Encoding"), None);
    }
    // A value on its list is made whole while the list is compressed, unless it is longer than any.
    let packed = rig.send("GET", "/kv/?prefix=long", GZIP, b"").is(200);
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert!(packed.body.len() < 2_000 && unpacked(&packed).len() > 100_000);
}

#[test]
fn what_it_takes_is_counted_and_given_back() {
    let rig = filled(&[b'v'; 30_000]);
    for _ in 0..3 {
        let packed = rig.send("GET", LIST, GZIP, b"").is(200);
        assert!(unpacked(&packed).len() > 3_000_000);
    }
    super::http_rig::until("nothing is held", || rig.metric("http_held_bytes") == 0.0);
}
