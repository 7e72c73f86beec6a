//! `GET /openapi.json`: the API for programs that make clients of it.

use super::context::{Call, Outcome};
use crate::http::response::Response;

/// OpenAPI 3.1. Tests compare it with the routes.
const DOCUMENT: &str = include_str!("openapi.json");

/// Answers with the document.
pub(super) fn answer(call: Call<'_>) -> Outcome {
    Response::new(call.out, call.now.wall, 200, DOCUMENT.len())
        .json()
        .end(call.request.form(), DOCUMENT.as_bytes());
    Outcome::Answered(200)
}
