//! OFREP, OpenFeature's protocol for SDKs that ask a server: flags are the keys under `flags/`.
//!
//! ```text
//! flags/new-ui   true                                                      the value itself
//! flags/theme    {"variants":{"a":"red","b":"blue"},"defaultVariant":"a"}  one of several
//! flags/old      {"state":"DISABLED", ..}                                  off: the code's default
//! ```
//!
//! Flags are static: what the client says of its user is read and passed over. A value that is no
//! JSON is a text.

use super::context::{Api, Call, Outcome};
use super::precondition::{Precondition, Verdict};
use super::query;
use crate::http::failure::Failure;
use crate::http::object::Object;
use crate::http::response::Response;
use crate::http::route::Spelt;
use crate::kv::Record;
use crate::limits::{FLAG_LEN_MAX, HTTP_LIST_LEN_MAX, LIST_ITEMS_MAX};
use crate::time::Now;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_128;

/// Where flags are.
const PREFIX: &str = "flags/";

/// What an SDK takes the default in the code for.
const NOT_FOUND: &str = "FLAG_NOT_FOUND";
/// The variant of a flag that has none. Some SDKs want one.
const STATIC: &str = "static";

/// What a client sends.
#[derive(Deserialize)]
struct Body {
    /// What it says of its user.
    #[serde(default, rename = "context")]
    _context: Option<BTreeMap<String, IgnoredAny>>,
}

/// `POST /ofrep/v1/evaluate/flags/{key}`.
pub(super) fn one(api: &Api, call: Call<'_>, segment: &str) -> Result<Outcome, Failure> {
    let key = match without_parameters(&call).and_then(|()| query::key(Spelt::Path(segment))) {
        Ok(key) => key,
        Err(failure) => return Ok(refused(call, &failure)),
    };
    if let Err(error) = read(call.request.body) {
        return Ok(answer(call, 400, &wrong(Some(&key), "PARSE_ERROR", &error), None));
    }
    if let Err(failure) = api.check_complete() {
        return Ok(refused(call, &failure));
    }
    let record = api.store().get(call.now, format!("{PREFIX}{key}").as_bytes());
    let Some(record) = record else {
        let told = wrong(Some(&key), NOT_FOUND, "there is no such flag");
        return Ok(answer(call, 404, &told, None));
    };
    let evaluated = evaluate(&key, record.value().unwrap_or_default());
    let status = match evaluated.get("errorCode") {
        None => 200,
        Some(code) if code == NOT_FOUND => 404,
        Some(_) => 400,
    };
    Ok(answer(call, status, &evaluated, None))
}

/// `POST /ofrep/v1/evaluate/flags`: all of them, with a tag by which a client asks for changes.
pub(super) fn all(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    let precondition = without_parameters(&call).and_then(|()| Precondition::of(call.request));
    let precondition = match precondition {
        Ok(precondition) => precondition,
        Err(failure) => return Ok(refused(call, &failure)),
    };
    if let Err(error) = read(call.request.body) {
        return Ok(answer(call, 400, &wrong(None, "PARSE_ERROR", &error), None));
    }
    if let Err(failure) = api.check_complete() {
        return Ok(refused(call, &failure));
    }
    if !call.request.may_take_time {
        return Ok(call.again());
    }
    let records = match records(api, call.now) {
        Ok(records) => records,
        Err(failure) => return Ok(refused(call, &failure)),
    };
    let flag = |record: &Record| {
        let key = std::str::from_utf8(record.key()).unwrap_or_default();
        let key = key.strip_prefix(PREFIX).filter(|key| !key.is_empty())?;
        let evaluated = evaluate(key, record.value().unwrap_or_default());
        Some(evaluated).filter(|told| told.get("errorCode").is_none_or(|code| code != NOT_FOUND))
    };
    let flags: Vec<Value> = records.iter().filter_map(flag).collect();
    let body = json!({ "flags": flags });
    let tag = format!("flags-{:032x}", xxh3_128(body.to_string().as_bytes()));
    if precondition.check_tag(Some(&tag)) == Verdict::Unchanged {
        Response::bodiless(call.out, call.now.wall, 304).tag(&tag).end_bodiless();
        return Ok(Outcome::Answered(304));
    }
    Ok(answer(call, 200, &body, Some(&tag)))
}

fn without_parameters(call: &Call<'_>) -> Result<(), Failure> {
    query::parameters(call.query, []).map(|[]| ())
}

/// What is wrong with a request, or with this node, as SDKs read it.
fn refused(call: Call<'_>, failure: &Failure) -> Outcome {
    let body = wrong(None, "GENERAL", &failure.message).to_string();
    let response = Response::new(call.out, call.now.wall, failure.status, body.len()).json();
    let response = match failure.header {
        Some((name, value)) => response.header(name, value),
        None => response,
    };
    response.end(call.request.form(), body.as_bytes());
    Outcome::Answered(failure.status)
}

/// The flags there are.
///
/// # Errors
/// 500 for more than one answer has.
fn records(api: &Api, now: Now) -> Result<Vec<Record>, Failure> {
    let (mut records, mut len, mut after) = (Vec::new(), 0, None::<Vec<u8>>);
    loop {
        let page = api.store().list(now, PREFIX.as_bytes(), after.as_deref(), LIST_ITEMS_MAX);
        len += page.items.iter().map(|record| record.as_bytes().len()).sum::<usize>();
        records.extend(page.items);
        if len > HTTP_LIST_LEN_MAX {
            let message = format_args!("the flags are longer than {HTTP_LIST_LEN_MAX} bytes");
            return Err(Failure::new(500, message));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(records),
        }
    }
}

fn read(body: &[u8]) -> Result<(), String> {
    if body.is_empty() {
        return Ok(());
    }
    let read = serde_json::from_slice::<Object<Body>>(body);
    let told = |error| format!("the body is not a JSON object as {{\"context\":{{..}}}}: {error}");
    read.map(|_| ()).map_err(told)
}

fn wrong(key: Option<&str>, code: &str, details: &str) -> Value {
    let mut told = Map::new();
    if let Some(key) = key {
        told.insert("key".into(), key.into());
    }
    told.insert("errorCode".into(), code.into());
    told.insert("errorDetails".into(), details.into());
    told.into()
}

/// What a flag comes to whose key holds this.
fn evaluate(key: &str, value: &[u8]) -> Value {
    if value.len() > FLAG_LEN_MAX {
        let details = format!("the flag has {} bytes, at most {FLAG_LEN_MAX}", value.len());
        return wrong(Some(key), "GENERAL", &details);
    }
    let Ok(text) = std::str::from_utf8(value) else {
        return wrong(Some(key), "PARSE_ERROR", "the flag is not UTF-8");
    };
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    if value.is_null() {
        return wrong(Some(key), "PARSE_ERROR", "the flag is null, which is no value");
    }
    let Some(flag) = value.as_object().filter(|flag| flag.contains_key("variants")) else {
        return json!({ "key": key, "value": value, "variant": STATIC, "reason": "STATIC" });
    };
    if flag.get("state").is_some_and(|state| state == "DISABLED") {
        return wrong(Some(key), NOT_FOUND, "the flag is disabled");
    }
    let variant = flag.get("defaultVariant").and_then(Value::as_str);
    let chosen = variant.and_then(|variant| flag.get("variants")?.get(variant));
    match (variant, chosen) {
        (Some(variant), Some(Value::Null)) => {
            let details = format!("the variant {variant} is null, which is no value");
            wrong(Some(key), "PARSE_ERROR", &details)
        }
        (Some(variant), Some(value)) => {
            json!({ "key": key, "value": value, "variant": variant, "reason": "STATIC" })
        }
        _ => wrong(Some(key), "PARSE_ERROR", "defaultVariant names none of the variants"),
    }
}

fn answer(call: Call<'_>, status: u16, body: &Value, tag: Option<&str>) -> Outcome {
    call.body.extend_from_slice(body.to_string().as_bytes());
    let response = Response::new(call.out, call.now.wall, status, call.body.len()).json();
    let response = match tag {
        Some(tag) => response.tag(tag),
        None => response,
    };
    response.end(call.request.form(), call.body);
    Outcome::Answered(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_its_value_or_one_of_its_variants() {
        let flag = |text: &str| evaluate("f", text.as_bytes());
        let fixed = |value: Value| {
            let (variant, reason) = ("static", "STATIC");
            json!({ "key": "f", "value": value, "variant": variant, "reason": reason })
        };
        assert_eq!(flag("true"), fixed(json!(true)));
        assert_eq!(flag("1.5"), fixed(json!(1.5)));
        assert_eq!(flag("on and off"), fixed(json!("on and off")));
        assert_eq!(flag("{\"a\":1}"), fixed(json!({ "a": 1 })));
        let variants = r#""variants":{"a":"red","b":"blue"}"#;
        let chosen = json!({ "key": "f", "value": "blue", "variant": "b", "reason": "STATIC" });
        assert_eq!(flag(&format!("{{{variants},\"defaultVariant\":\"b\"}}")), chosen);
        let off = flag(&format!("{{{variants},\"state\":\"DISABLED\"}}"));
        assert_eq!(off["errorCode"], NOT_FOUND);
        for bad in [format!("{{{variants},\"defaultVariant\":\"c\"}}"), "{\"variants\":1}".into()] {
            assert_eq!(flag(&bad)["errorCode"], "PARSE_ERROR");
        }
        assert_eq!(evaluate("f", &[0xff])["errorCode"], "PARSE_ERROR");
        assert_eq!(evaluate("f", &vec![b' '; FLAG_LEN_MAX + 1])["errorCode"], "GENERAL");
    }
}
