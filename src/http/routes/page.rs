//! `GET /`: one page for a person, complete in itself.

use super::context::{Call, Outcome};
use crate::http::request::Trust;
use crate::http::response::Response;

const PAGE: &str = include_str!("page.html");

/// The page may run the script it brings, and ask the server it came from; nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers with the page. A browser that has not sent the token gets it as well, with the status
/// that says so: the page asks for the token, and holds nothing of the store.
pub(super) fn home(call: Call<'_>) -> Outcome {
    let is_stranger = call.request.trust == Trust::Stranger;
    let status = if is_stranger { 401 } else { 200 };
    let response = Response::new(call.out, call.now.wall, status, PAGE.len());
    let response =
        if is_stranger { response.header("WWW-Authenticate", "Bearer") } else { response };
    response
        .header("Content-Type", "text/html; charset=utf-8")
        .header("Content-Security-Policy", POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "no-referrer")
        .end(call.request.form(), PAGE.as_bytes());
    Outcome::Answered(status)
}
