//! Which route a path means, and which methods the route has.
//!
//! The gate asks it before the body is read: for the token, and for the lane. The routes ask it for
//! the answer.

use super::failure::Failure;
use super::request::Method;

/// Makes the routes, their numbers and their labels of one list.
macro_rules! routes {
    ($($name:ident $(($($part:ty),+))? $label:literal,)+) => {
        /// A route, with the parts of the path that vary, still encoded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Route<'t> {
            $(
                #[doc = concat!("The route `", $label, "`, as `/metrics` calls it.")]
                $name $(($($part),+))?,
            )+
        }

        enum Number { $($name,)+ }

        /// The labels of the routes, in the order of [`Route::number`].
        pub(super) const LABELS: [&str; N_ROUTES] = [$($label,)+];

        /// Routes there are, for a table of counters.
        pub(super) const N_ROUTES: usize = [$($label,)+].len();

        impl Route<'_> {
            /// Its place in [`LABELS`].
            pub(super) fn number(self) -> usize {
                match self {
                    $(Route::$name { .. } => Number::$name as usize,)+
                }
            }
        }
    };
}

/// Where a target spells a key, the key still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelt<'t> {
    /// In the path, `/kv/{key}`, where `+` is a plus.
    Path(&'t str),
    /// In the query, `/kv?key={key}`, where `+` is a space. Proxies that decode and shorten paths
    /// leave it alone.
    Query(&'t str),
}

/// What Consul's clients ask for beside the keys. Names in paths are still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsulPart<'t> {
    /// `/v1/status/leader`.
    Leader,
    /// `/v1/status/peers`.
    Peers,
    /// `/v1/agent/self`.
    Agent,
    /// `/v1/agent/members`.
    Members,
    /// `/v1/catalog/datacenters`.
    Datacenters,
    /// `/v1/catalog/nodes`.
    Nodes,
    /// `/v1/catalog/services`.
    Services,
    /// `/v1/catalog/service/{name}`.
    Service(&'t str),
    /// `/v1/catalog/node/{name}`.
    Node(&'t str),
    /// `/v1/health/service/{name}`.
    HealthOfService(&'t str),
    /// `/v1/health/node/{name}`.
    HealthOfNode(&'t str),
    /// `/v1/health/state/{name}`.
    HealthByState(&'t str),
}

routes! {
    Home "/",
    Health "/health",
    Live "/live",
    Version "/version",
    Metrics "/metrics",
    OpenApi "/openapi.json",
    Members "/members",
    MembersForget "/members/forget",
    Keys "/keys",
    KeysInstall "/keys/install",
    KeysUse "/keys/use",
    KeysRemove "/keys/remove",
    List "/kv/",
    Entry(Spelt<'t>) "/kv/{key}",
    Pair(&'t str, &'t str) "/kv/{key}/{value}",
    ConsulKv(&'t str) "/v1/kv/{key}",
    ConsulTxn "/v1/txn",
    ConsulStatus(ConsulPart<'t>) "/v1/status/{part}",
    ConsulAgent(ConsulPart<'t>) "/v1/agent/{part}",
    ConsulCatalog(ConsulPart<'t>) "/v1/catalog/{part}",
    ConsulCatalogOf(ConsulPart<'t>) "/v1/catalog/{kind}/{name}",
    ConsulHealth(ConsulPart<'t>) "/v1/health/{kind}/{name}",
    OfrepFlag(&'t str) "/ofrep/v1/evaluate/flags/{key}",
    OfrepFlags "/ofrep/v1/evaluate/flags",
    Unknown "other",
}

impl<'t> Route<'t> {
    /// The route that a path and a query mean.
    #[must_use]
    pub fn of(path: &'t str, query: Option<&'t str>) -> Route<'t> {
        match path {
            "/" => Route::Home,
            "/health" => Route::Health,
            "/live" => Route::Live,
            "/version" => Route::Version,
            "/metrics" => Route::Metrics,
            "/openapi.json" => Route::OpenApi,
            "/members" => Route::Members,
            "/members/forget" => Route::MembersForget,
            "/ofrep/v1/evaluate/flags" => Route::OfrepFlags,
            "/keys" => Route::Keys,
            "/keys/install" => Route::KeysInstall,
            "/keys/use" => Route::KeysUse,
            "/keys/remove" => Route::KeysRemove,
            "/kv" | "/kv/" => match query.and_then(key_in) {
                Some(key) => Route::Entry(Spelt::Query(key)),
                None => Route::List,
            },
            _ => match path.strip_prefix("/kv/") {
                None => Route::of_consul(path),
                Some(rest) => match rest.split_once('/') {
                    None => Route::Entry(Spelt::Path(rest)),
                    // An empty value is put with a body; a slash too many is a slip.
                    Some((_, value)) if value.is_empty() || value.contains('/') => Route::Unknown,
                    Some((key, value)) => Route::Pair(key, value),
                },
            },
        }
    }

    /// The route that a path means for Consul's clients.
    fn of_consul(path: &'t str) -> Route<'t> {
        match path {
            "/v1/kv" => Route::ConsulKv(""),
            "/v1/txn" => Route::ConsulTxn,
            "/v1/status/leader" => Route::ConsulStatus(ConsulPart::Leader),
            "/v1/status/peers" => Route::ConsulStatus(ConsulPart::Peers),
            "/v1/agent/self" => Route::ConsulAgent(ConsulPart::Agent),
            "/v1/agent/members" => Route::ConsulAgent(ConsulPart::Members),
            "/v1/catalog/datacenters" => Route::ConsulCatalog(ConsulPart::Datacenters),
            "/v1/catalog/nodes" => Route::ConsulCatalog(ConsulPart::Nodes),
            "/v1/catalog/services" => Route::ConsulCatalog(ConsulPart::Services),
            _ => match path.strip_prefix("/v1/kv/") {
                Some(key) => Route::ConsulKv(key),
                None => Route::of_consul_name(path).unwrap_or_else(|| Route::of_ofrep(path)),
            },
        }
    }

    /// The same for one that ends with a name.
    fn of_consul_name(path: &'t str) -> Option<Route<'t>> {
        let (part, name) = path.strip_prefix("/v1/")?.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        Some(match part {
            "catalog/service" => Route::ConsulCatalogOf(ConsulPart::Service(name)),
            "catalog/node" => Route::ConsulCatalogOf(ConsulPart::Node(name)),
            "health/service" => Route::ConsulHealth(ConsulPart::HealthOfService(name)),
            "health/node" => Route::ConsulHealth(ConsulPart::HealthOfNode(name)),
            "health/state" => Route::ConsulHealth(ConsulPart::HealthByState(name)),
            _ => return None,
        })
    }

    /// Whether it tells Consul's clients who is there.
    pub(super) fn is_of_members(self) -> bool {
        matches!(
            self,
            Route::ConsulStatus(_)
                | Route::ConsulAgent(_)
                | Route::ConsulCatalog(_)
                | Route::ConsulCatalogOf(_)
                | Route::ConsulHealth(_)
        )
    }

    /// The route that a path means for OpenFeature's SDKs.
    fn of_ofrep(path: &'t str) -> Route<'t> {
        let key = path.strip_prefix("/ofrep/v1/evaluate/flags/");
        // Some SDKs send a slash in a key as it is.
        let key = key.filter(|key| !key.is_empty());
        key.map_or(Route::Unknown, Route::OfrepFlag)
    }

    /// Whether it reads, though by a `POST`.
    pub(super) fn is_question(self) -> bool {
        matches!(self, Route::OfrepFlag(_) | Route::OfrepFlags)
    }

    /// Whether it reads or writes keys.
    pub(super) fn is_of_store(self) -> bool {
        matches!(
            self,
            Route::List | Route::Entry(_) | Route::Pair(..) | Route::ConsulKv(_) | Route::ConsulTxn
        )
    }

    /// What `/metrics` calls it.
    pub(super) fn label(self) -> &'static str {
        LABELS[self.number()]
    }

    /// Whether it answers without the token: probes carry none.
    pub(super) fn is_probe(self) -> bool {
        matches!(self, Route::Health | Route::Live)
    }

    /// The methods of this route, and how `Allow` lists them; `OPTIONS` goes without saying. `None`
    /// for no route.
    pub(super) fn methods(self) -> Option<(&'static [Method], &'static str)> {
        use Method::{Delete, Get, Head, Post, Put};
        Some(match self {
            Route::Unknown => return None,
            Route::Entry(_) => (&[Get, Head, Put, Delete], "GET, HEAD, PUT, DELETE, OPTIONS"),
            Route::Pair(..) => (&[Put], "PUT, OPTIONS"),
            Route::List => (&[Get, Head, Post, Delete], "GET, HEAD, POST, DELETE, OPTIONS"),
            Route::ConsulKv(_) => (&[Get, Head, Put, Delete], "GET, HEAD, PUT, DELETE, OPTIONS"),
            Route::ConsulTxn => (&[Put], "PUT, OPTIONS"),
            Route::OfrepFlag(_) | Route::OfrepFlags => (&[Post], "POST, OPTIONS"),
            Route::KeysInstall | Route::KeysUse | Route::KeysRemove | Route::MembersForget => {
                (&[Post], "POST, OPTIONS")
            }
            _ => (&[Get, Head], "GET, HEAD, OPTIONS"),
        })
    }

    /// Refuses a method this route does not have, and a route that is none.
    ///
    /// # Errors
    /// 404, or 405 with `Allow`.
    pub fn check(self, method: Method, path: &str) -> Result<(), Failure> {
        let Some((methods, allow)) = self.methods() else { return Err(not_found(path)) };
        if methods.contains(&method) || method == Method::Options {
            return Ok(());
        }
        if is_consul(path) {
            let message = format_args!("method {} not allowed", method.name());
            return Err(Failure::new(405, message).with("Allow", allow));
        }
        let hint = match self {
            Route::Pair(..) => "; a / in a key is written %2F",
            Route::List => "; a key is named as /kv/{key} or /kv?key={key}",
            _ => "",
        };
        let message = format!("{path} takes {allow}, not {}{hint}", method.name());
        Err(Failure::new(405, message).with("Allow", allow))
    }
}

/// The key that a query names, if it does. Whether the rest of the query makes sense is for the
/// route to tell.
fn key_in(query: &str) -> Option<&str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(name, _)| *name == "key").map(|(_, key)| key)
}

/// Whether a path is one of Consul's API, whose errors are plain text.
pub(super) fn is_consul(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

fn not_found(path: &str) -> Failure {
    if path.starts_with("/v1/session/") {
        let message = "sessions and locks need consensus; this store is eventually consistent";
        return Failure::new(501, message);
    }
    if is_consul(path) {
        let message = "Invalid URL path: not a recognized HTTP API endpoint\n";
        return Failure::new(404, message);
    }
    if path.starts_with("/kv/") {
        let message = "there is /kv/{key} and, for PUT, /kv/{key}/{value}; a / in a key or value \
            is written %2F, and /kv?key={key} takes it as it is";
        return Failure::new(404, message);
    }
    Failure::new(404, format_args!("no such route: {path}; GET / lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_own_label() {
        let paths = [
            ("/", Route::Home),
            ("/keys/use", Route::KeysUse),
            ("/kv", Route::List),
            ("/kv/", Route::List),
            ("/kv/a", Route::Entry(Spelt::Path("a"))),
            ("/kv/a%2Fb", Route::Entry(Spelt::Path("a%2Fb"))),
            ("/kv/a/b", Route::Pair("a", "b")),
            ("/kv//b", Route::Pair("", "b")),
            ("/kv/a/", Route::Unknown),
            ("/kv/a/b/c", Route::Unknown),
            ("/kv/a//", Route::Unknown),
            ("/kvs", Route::Unknown),
            ("/health/", Route::Unknown),
            ("/v1/kv", Route::ConsulKv("")),
            ("/v1/kv/", Route::ConsulKv("")),
            ("/v1/kv//a/b%2Fc", Route::ConsulKv("/a/b%2Fc")),
            ("/v1/status/leader", Route::ConsulStatus(ConsulPart::Leader)),
            ("/v1/catalog/node/a%2Fb", Route::ConsulCatalogOf(ConsulPart::Node("a%2Fb"))),
            ("/v1/health/state/any", Route::ConsulHealth(ConsulPart::HealthByState("any"))),
            ("/v1/health/state/", Route::Unknown),
            ("/v1/health/state/any/", Route::Unknown),
            ("/v1/health/checks/web", Route::Unknown),
            ("/v1/session/create", Route::Unknown),
        ];
        for (path, route) in paths {
            assert_eq!(Route::of(path, None), route, "{path}");
        }
        for path in ["/kv", "/kv/"] {
            let of = |query| Route::of(path, Some(query));
            assert_eq!(of("key=a/b"), Route::Entry(Spelt::Query("a/b")));
            assert_eq!(of("raw&key=a=b&key=c"), Route::Entry(Spelt::Query("a=b")));
            assert_eq!(of("key"), Route::Entry(Spelt::Query("")));
            assert_eq!(of("keys&prefix=key=a"), Route::List);
        }
        assert_eq!(Route::of("/kv/a", Some("key=b")), Route::Entry(Spelt::Path("a")));
        for label in LABELS {
            let path = label
                .replace("status/{part}", "status/leader")
                .replace("agent/{part}", "agent/self")
                .replace("catalog/{part}", "catalog/nodes")
                .replace("catalog/{kind}", "catalog/service")
                .replace("health/{kind}", "health/state");
            let expected = if label == "other" { Route::Unknown } else { Route::of(&path, None) };
            assert_eq!(LABELS[expected.number()], label);
        }
    }

    #[test]
    fn a_method_that_is_not_there_is_told_which_are() {
        let check = |path, method| Route::of(path, None).check(method, path);
        assert_eq!(check("/kv/a", Method::Delete), Ok(()));
        let failure = check("/kv/a/b", Method::Get).unwrap_err();
        assert_eq!((failure.status, failure.header), (405, Some(("Allow", "PUT, OPTIONS"))));
        let failure = check("/keys/use", Method::Get).unwrap_err();
        assert_eq!((failure.status, failure.header), (405, Some(("Allow", "POST, OPTIONS"))));
        assert_eq!(check("/kv/a/b/c", Method::Put).unwrap_err().status, 404);
        assert_eq!(check("/v1/kv/a", Method::Post).unwrap_err().message, "method POST not allowed");
        assert_eq!(check("/v1/health/state", Method::Get).unwrap_err().status, 404);
        assert_eq!(check("/v1/session/create", Method::Put).unwrap_err().status, 501);
        assert!(is_consul("/v1/kv") && is_consul("/v1?x") && !is_consul("/v10"));
    }
}
