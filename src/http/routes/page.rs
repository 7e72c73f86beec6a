//! `GET /`: one page for a person, complete in itself.

use super::context::{Call, Outcome};
use crate::http::response::Response;

const PAGE: &str = include_str!("page.html");

/// The page may run the script it brings, and ask the server it came from; nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers with the page.
pub(super) fn home(call: Call<'_>) -> Outcome {
    Response::new(call.out, call.now.wall, 200, PAGE.len())
        .header("Content-Type", "text/html; charset=utf-8")
        .header("Content-Security-Policy", POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
        .end(call.request.form(), PAGE.as_bytes());
    Outcome::Answered(200)
}
