//! `GET /`: one page for a person, complete in itself.
//!
//! ```text
//! page.html   the frame, with a place for each of the others
//! page.css    the style
//! *.js        the parts of its script, in the order of PARTS; one scope
//! ```

use super::context::{Call, Outcome};
use crate::http::request::Trust;
use crate::http::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use std::sync::LazyLock;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const PARTS: [&str; 8] = [
    include_str!("ask.js"),
    include_str!("rows.js"),
    include_str!("list.js"),
    include_str!("live.js"),
    include_str!("forms.js"),
    include_str!("value.js"),
    include_str!("editor.js"),
    concat!(include_str!("cluster.js"), include_str!("main.js")),
];

/// The page as it goes out, and what it may do.
struct Page {
    text: String,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let script = format!("\"use strict\";\n{{\n{}}}\n", PARTS.concat());
    let text = FRAME.replace("/* style */", STYLE).replace("/* script */", &script);
    Page { text, policy: policy(STYLE, &script) }
});

/// The page may run the script it brings and no other, ask the server it came from, and show what
/// it has read as a picture. No text becomes markup: the browser lets no script do that.
fn policy(style: &str, script: &str) -> String {
    let [style, script] =
        [style, script].map(|text| STANDARD.encode(digest(&SHA256, text.as_bytes())));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; \
         connect-src 'self'; img-src blob:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// Answers with the page. A browser that has not sent the token gets it as well, with the status
/// that says so: the page asks for the token, and holds nothing of the store.
pub(super) fn home(call: Call<'_>) -> Outcome {
    let is_stranger = call.request.trust == Trust::Stranger;
    let status = if is_stranger { 401 } else { 200 };
    let Page { text, policy } = &*PAGE;
    let response = Response::new(call.out, call.now.wall, status, text.len());
    let response =
        if is_stranger { response.header("WWW-Authenticate", "Bearer") } else { response };
    response
        .header("Content-Type", "text/html; charset=utf-8")
        .header("Content-Security-Policy", policy)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
        .end(call.request.form(), text.as_bytes());
    Outcome::Answered(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_nothing_else() {
        let Page { text, policy } = &*PAGE;
        assert!(!text.contains("/* style */") && !text.contains("/* script */"));
        assert_eq!(text.matches("</script").count(), 1);
        assert_eq!(text.matches("</style").count(), 1);
        // Only what stands between the tags has the hash that the browser looks for.
        let script = text.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>"));
        let script = script.expect("a script").0;
        let hash = STANDARD.encode(digest(&SHA256, script.as_bytes()));
        assert!(policy.contains(&format!("script-src 'sha256-{hash}'")), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for asset in [" src=\"", "url(", "@import", "//fonts", "href=\"http"] {
            assert!(!text.contains(asset), "{asset}");
        }
    }

    #[test]
    fn no_text_becomes_markup() {
        for (name, part) in [("script", PARTS.concat()), ("frame", FRAME.to_owned())] {
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
                "new Function",
                "srcdoc",
                "DOMParser",
                "javascript:",
                " onclick",
                " onerror",
                " onload",
                " style=",
            ] {
                assert!(!part.contains(way), "{way} in the {name}");
            }
        }
    }
}
