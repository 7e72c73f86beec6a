//! What the addresses of a node have to do with each other: ports that clash, an address that
//! others dial in vain.

use super::parse::Advertise;
use super::reader::Reader;
use crate::discovery::Families;
use std::net::{IpAddr, SocketAddr};

impl Reader<'_> {
    /// What is wrong with addresses each of which is right by itself.
    pub(super) fn addresses(
        &mut self,
        bind: Option<SocketAddr>,
        advertise: Option<Advertise>,
        http: Option<SocketAddr>,
    ) {
        let Some(bind) = bind else { return };
        if let Some(advertise) = advertise {
            self.same_family(bind, advertise.ip);
        }
        if let Some(http) = http {
            self.same_port(bind, http);
        }
    }

    /// Who dials an address of another family reaches nobody, and cannot be answered.
    fn same_family(&mut self, bind: SocketAddr, ip: IpAddr) {
        if Families::of(bind).has(ip) {
            return;
        }
        let (source, port) = (self.source("advertise"), bind.port());
        let wants = if ip.to_canonical().is_ipv4() { "IPv4" } else { "IPv6" };
        let problem = format!(
            "nobody reaches {ip}: --bind {bind} does not listen on {wants}; --bind [::]:{port} \
             listens on both"
        );
        self.problem(&source, &problem);
    }

    /// Gossip listens on TCP too, so one port cannot serve both.
    fn same_port(&mut self, bind: SocketAddr, http: SocketAddr) {
        let overlap =
            bind.ip() == http.ip() || bind.ip().is_unspecified() || http.ip().is_unspecified();
        if bind.port() == http.port() && bind.port() != 0 && overlap {
            let source = self.source("http");
            let port = http.port();
            self.problem(
                &source,
                &format!("port {port} is the one of --bind, which listens on TCP too"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::config::tests::check;

    #[test]
    fn gossip_and_http_cannot_share_a_port() {
        for (bind, http, clash) in [
            ("127.0.0.1:9", "127.0.0.1:9", true),
            ("0.0.0.0:9", "127.0.0.1:9", true),
            ("127.0.0.1:9", "127.0.0.2:9", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let flags = [format!("--bind={bind}"), format!("--http={http}")];
            let checked = check(&flags.each_ref().map(String::as_str), &[]);
            assert_eq!(checked.is_err(), clash, "{bind} {http}");
        }
    }

    #[test]
    fn an_address_that_nobody_listens_on_is_not_advertised() {
        for (bind, advertise, refused) in [
            ("0.0.0.0:7947", "2001:db8::5", Some("[::]:7947 listens on both")),
            ("10.0.0.7:9", "[2001:db8::5]:9", Some("--bind 10.0.0.7:9 does not listen on IPv6")),
            ("[::ffff:10.0.0.7]:9", "2001:db8::5", Some("IPv6")),
            ("[2001:db8::5]:9", "10.0.0.7", Some("does not listen on IPv4")),
            ("[::]:9", "10.0.0.7", None),
            ("[::]:9", "2001:db8::5", None),
            ("0.0.0.0:9", "10.0.0.7", None),
            ("0.0.0.0:9", "::ffff:10.0.0.7", None),
            ("[2001:db8::5]:9", "2001:db8::6", None),
        ] {
            let flags = [format!("--bind={bind}"), format!("--advertise={advertise}")];
            match (check(&flags.each_ref().map(String::as_str), &[]), refused) {
                (Ok(_), None) => {}
                (Err(problems), Some(why)) => assert!(
                    matches!(&problems[..], [line] if line.starts_with("--advertise: nobody")
                        && line.contains(why)),
                    "{problems:?}"
                ),
                (checked, _) => panic!("{bind} {advertise}: {checked:?}"),
            }
        }
    }
}
