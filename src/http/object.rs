//! JSON objects that clients send.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// What a JSON object says. Read by itself, a structure would take an array as well, for its fields
/// in their order.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Object<T>, D::Error> {
        text.deserialize_map(Reading(PhantomData)).map(Object)
    }
}

struct Reading<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Reading<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }

    #[test]
    fn an_array_is_no_object() {
        let read = |text| serde_json::from_str::<Object<Body<'_>>>(text);
        assert_eq!(read(" {\"name\":\"n\"} ").unwrap().0.name, "n");
        for (text, why) in [
            ("[\"n\"]", "expected a JSON object"),
            ("\"n\"", "expected a JSON object"),
            ("{\"name\":\"n\",\"more\":1}", "unknown field `more`"),
            ("{}", "missing field `name`"),
        ] {
            let error = read(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
