//! A DNS server for tests that answers as it is told.

use super::dns::Dns;
use super::system::System;
use super::{Config, Families};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// How much later.
const LATE: Duration = Duration::from_millis(30);

/// What it says to one question.
#[derive(Debug, Clone)]
pub(super) enum Says {
    Code(ResponseCode),
    /// The name exists, and has these.
    Records(Vec<RData>),
    Silence,
    /// The same, later than any other server.
    Late(Box<Says>),
}

pub(super) fn no_name() -> Says {
    Says::Code(ResponseCode::NXDomain)
}

pub(super) fn fails() -> Says {
    Says::Code(ResponseCode::ServFail)
}

pub(super) fn nothing() -> Says {
    Says::Records(Vec::new())
}

/// These addresses for questions of their family, and no record for the other one.
pub(super) fn at(kind: RecordType, addresses: &[&str]) -> Says {
    let addresses = addresses.iter().map(|ip| ip.parse::<IpAddr>().expect("an address"));
    let is_asked = |ip: &IpAddr| ip.is_ipv4() == (kind == RecordType::A);
    Says::Records(addresses.filter(is_asked).map(RData::from).collect())
}

pub(super) fn srv(targets: &[(&str, u16)]) -> Says {
    let target = |(name, port): &(&str, u16)| {
        RData::SRV(SRV::new(1, 1, *port, Name::from_ascii(name).expect("a name")))
    };
    Says::Records(targets.iter().map(target).collect())
}

/// A server on a port of its own; `says` gets the name, absolute, and the type that is asked for.
pub(super) async fn server(says: impl Fn(&str, RecordType) -> Says + Send + 'static) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
    let addr = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..len]).expect("a question");
            let query = &question.queries[0];
            let mut said = says(&query.name().to_ascii().to_lowercase(), query.query_type());
            let mut late = Duration::ZERO;
            if let Says::Late(later) = said {
                (said, late) = (*later, LATE);
            }
            let Some(bytes) = answer(&question, said) else { continue };
            let socket = socket.clone();
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                let _ = socket.send_to(&bytes, from).await;
            });
        }
    });
    addr
}

fn answer(question: &Message, said: Says) -> Option<Vec<u8>> {
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    match said {
        Says::Silence | Says::Late(_) => return None,
        Says::Code(code) => answer.metadata.response_code = code,
        Says::Records(records) => answer.answers.extend(
            records.into_iter().map(|data| Record::from_rdata(query.name().clone(), 0, data)),
        ),
    }
    answer.queries.push(query);
    Some(answer.to_vec().expect("an answer"))
}

/// A resolver of these servers, in this order, with this search list.
pub(super) fn dns(servers: &[SocketAddr], search: &str, families: Families) -> Dns {
    let mut system = System::parse(format!("search {search}\noptions ndots:5\n").as_bytes());
    system.servers = servers.to_vec();
    Dns::with(system, families).expect("a resolver")
}

/// A node at 127.0.0.1:1 that looks for an SRV record at this server.
pub(super) fn config(dns: SocketAddr, seeds: &[&str]) -> Config {
    Config {
        srv: "_gossip._tcp.kv.internal".parse().ok(),
        seeds: seeds.iter().map(|seed| seed.parse().expect("a seed")).collect(),
        dns: Some(dns),
        own: "127.0.0.1:1".parse().ok(),
        bound: None,
    }
}
