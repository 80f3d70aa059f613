//! Where a node listens, and where it tells others that they reach it. Pure.
//!
//! ```text
//!              listens (an IP of this machine, or all)     is reached (a name, or an IP)
//! clients      client_addr, else 127.0.0.1:7001            advertise_client_addr, else the same
//! other nodes  peer_addr, else 127.0.0.1:7021              advertise_peer_addr, else the same
//! HTTP         http_addr, else 127.0.0.1:7041              advertise_http_addr, else the same
//! ```
//!
//! The two differ in a container, behind NAT, and wherever a name outlives an IP. What a node
//! advertises goes into the catalog, and from there to nodes, clients and people; where it listens
//! is nobody else's concern.
//!
//! What is advertised can be connected to as far as the text tells: it has a port, and is not all
//! of a machine (`0.0.0.0`, `[::]`). Anything else stops the start.

use crate::config::Config;
use model::Address;
use serde::{Deserialize, Deserializer, de::Error};
use std::net::{Ipv4Addr, SocketAddr};

/// A port of a node, as `node.toml` names it.
struct Port {
    listens: SocketAddr,
    field: &'static str,
    advertised: Option<Address>,
    advertise_field: &'static str,
    /// Who is told where it is.
    who: &'static str,
}

pub(crate) fn client_default() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7001).into()
}

pub(crate) fn peer_default() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7021).into()
}

pub(crate) fn http_default() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7041).into()
}

/// Where to listen: an IP and a port. A name could mean several, or none of this machine's.
pub(crate) fn listens<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        let what = match text.parse::<Address>() {
            Ok(named) if is_loopback_name(&named) => format!(
                "'{text}' is a name, and a node listens on an IP of its machine: use 127.0.0.1:{}",
                named.port()
            ),
            Ok(named) => format!(
                "'{text}' is a name, and a node listens on an IP of its machine: use that, or 0.0.0.0:{} for all of them, and advertise '{text}' (advertise_client_addr, advertise_peer_addr, advertise_http_addr)",
                named.port()
            ),
            Err(error) => error.to_string(),
        };
        D::Error::custom(what)
    })
}

/// Whether a name always means the machine that asks (RFC 6761).
fn is_loopback_name(named: &Address) -> bool {
    let host = named.host();
    let host = host.strip_suffix('.').unwrap_or(&host);
    host == "localhost" || host.ends_with(".localhost")
}

fn is_loopback(address: &Address) -> bool {
    match address.socket() {
        Some(socket) => socket.ip().to_canonical().is_loopback(),
        None => is_loopback_name(address),
    }
}

impl Config {
    /// Where clients reach it.
    pub fn advertised_client_addr(&self) -> Address {
        self.client_port().reached()
    }

    /// Where other nodes reach it.
    pub fn advertised_peer_addr(&self) -> Address {
        self.peer_port().reached()
    }

    /// Where people and monitoring reach it.
    pub fn advertised_http_addr(&self) -> Address {
        self.http_port().reached()
    }

    fn client_port(&self) -> Port {
        Port {
            listens: self.client_addr,
            field: "client_addr",
            advertised: self.advertise_client_addr.clone(),
            advertise_field: "advertise_client_addr",
            who: "clients",
        }
    }

    fn peer_port(&self) -> Port {
        Port {
            listens: self.peer_addr,
            field: "peer_addr",
            advertised: self.advertise_peer_addr.clone(),
            advertise_field: "advertise_peer_addr",
            who: "other nodes",
        }
    }

    fn http_port(&self) -> Port {
        Port {
            listens: self.http_addr,
            field: "http_addr",
            advertised: self.advertise_http_addr.clone(),
            advertise_field: "advertise_http_addr",
            who: "people and monitoring",
        }
    }

    /// What is wrong with its addresses: in which field, and what to write.
    pub(crate) fn check_addresses(&self) -> Result<(), (&'static str, String)> {
        for peer in &self.cluster.peers {
            if peer.peer_addr.is_unspecified() {
                let what = format!(
                    "the peer_addr of '{}', {}, is no place to connect to: use an IP or a name of its machine",
                    peer.id, peer.peer_addr
                );
                return Err(("cluster.peers", what));
            }
        }
        let own = self.cluster.peers.iter().find(|peer| peer.id == self.id);
        let own = own.map(|own| own.peer_addr.to_string());
        // All that is wrong at once: who listens everywhere has mostly three lines to add.
        let ports = [
            self.client_port().check(None),
            self.peer_port().check(own),
            self.http_port().check(None),
        ];
        let wrong: Vec<_> = ports.into_iter().filter_map(Result::err).collect();
        match wrong.first() {
            Some(&(field, _)) => {
                let lines: Vec<_> = wrong.into_iter().map(|(_, what)| what).collect();
                Err((field, lines.join("; ")))
            }
            None => Ok(()),
        }
    }

    /// What an operator should know about who may reach its ports, once at each start.
    pub(crate) fn cautions(&self) -> Vec<&'static str> {
        let is_reached = |addr: SocketAddr| !is_loopback(&addr.into());
        let lost = "other nodes are on other machines by cluster.peers, and are told a loopback address for this one, which is themselves: set peer_addr and advertise_peer_addr to where they reach it";
        let mut others = self.cluster.peers.iter().filter(|peer| peer.id != self.id);
        let is_lost = is_loopback(&self.advertised_peer_addr())
            && others.any(|peer| !is_loopback(&peer.peer_addr));
        let clients = match self.protected_mode {
            true => {
                "client_addr is not a loopback address, and the node is in protected mode: clients of other machines are turned away. If everybody who can reach it may read and change everything, set protected_mode = false"
            }
            false => {
                "client_addr is not a loopback address, protected_mode is off, and clients need no password: whoever reaches it may read and change everything. Keep it inside a trusted network"
            }
        };
        let peers = "peer_addr is not a loopback address, and nodes don't prove who they are: whoever reaches it may read and change everything. Let only the cluster's other nodes reach it (a firewall, a private network)";
        [(self.client_addr, clients), (self.peer_addr, peers)]
            .into_iter()
            .filter(|(addr, _)| is_reached(*addr))
            .map(|(_, caution)| caution)
            .chain(is_lost.then_some(lost))
            .collect()
    }
}

impl Port {
    fn reached(self) -> Address {
        self.advertised.unwrap_or(self.listens.into())
    }

    /// `likely`: what its operator has written elsewhere for it.
    fn check(self, likely: Option<String>) -> Result<(), (&'static str, String)> {
        let Port {
            listens,
            field,
            advertise_field,
            who,
            ..
        } = self;
        let example = likely.unwrap_or_else(|| format!("db1.example:{}", listens.port().max(1)));
        let wrong = match &self.advertised {
            Some(advertised) if advertised.is_unspecified() => {
                format!("{advertised} stands for all of a machine, and can't be told to {who}")
            }
            None if listens.ip().is_unspecified() => format!(
                "{field} = \"{listens}\" listens on all of this machine's addresses, and {who} must be told one"
            ),
            None if listens.port() == 0 => {
                format!("{field} = \"{listens}\" takes any free port, and {who} must be told one")
            }
            _ => return Ok(()),
        };
        let what = format!(
            "{wrong}: say where they reach this node, as in {advertise_field} = \"{example}\""
        );
        Err((advertise_field, what))
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;
    use std::path::Path;

    const LEAST: &str = "id = \"us-1\"\nregion = \"us\"\nzone = \"a\"\ndata_dir = \"d\"\n";
    const CLUSTER: &str = "[cluster]\nname = \"c\"\ncontrol_voters = [\"us-1\"]\n";

    fn load(lines: &str, peers: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, format!("{LEAST}{lines}\n{CLUSTER}{peers}")).unwrap();
        Config::load(&file).map_err(|e| e.to_string())
    }

    fn peer(addr: &str) -> String {
        peer_of("us-1", addr)
    }

    fn peer_of(id: &str, addr: &str) -> String {
        format!("[[cluster.peers]]\nid = \"{id}\"\nregion = \"us\"\npeer_addr = \"{addr}\"\n")
    }

    #[test]
    fn a_node_that_is_told_nothing_listens_on_loopback_alone_and_is_protected() {
        let config = load("", "").unwrap();
        for addr in [config.client_addr, config.peer_addr, config.http_addr] {
            assert!(addr.ip().is_loopback(), "{addr}");
        }
        assert!(config.protected_mode);
        assert_eq!(config.cautions(), [""; 0]);
        assert_eq!(
            config.advertised_client_addr().to_string(),
            "127.0.0.1:7001"
        );
    }

    #[test]
    fn what_is_advertised_is_told_and_where_it_listens_is_not() {
        let lines = "client_addr = \"0.0.0.0:7001\"\npeer_addr = \"[::]:7021\"\n\
                     http_addr = \"10.0.0.1:7041\"\n\
                     advertise_client_addr = \"db1.example:17001\"\n\
                     advertise_peer_addr = \"[fd00::1]:7021\"\n";
        let config = load(lines, &peer("[fd00::1]:7021")).unwrap();
        assert_eq!(
            config.advertised_client_addr().to_string(),
            "db1.example:17001"
        );
        assert_eq!(config.advertised_peer_addr().to_string(), "[fd00::1]:7021");
        assert_eq!(config.advertised_http_addr().to_string(), "10.0.0.1:7041");
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&written).unwrap(), config);
    }

    #[test]
    fn what_nobody_could_connect_to_is_refused_and_the_error_says_what_to_write() {
        for (lines, peers, says) in [
            (
                "client_addr = \"0.0.0.0:7001\"",
                String::new(),
                "advertise_client_addr = \"db1.example:7001\"",
            ),
            (
                "client_addr = \"127.0.0.1:0\"",
                String::new(),
                "takes any free port",
            ),
            (
                "http_addr = \"[::]:7041\"",
                String::new(),
                "advertise_http_addr = \"db1.example:7041\"",
            ),
            (
                "advertise_http_addr = \"[::ffff:0.0.0.0]:7041\"",
                String::new(),
                "stands for all of a machine",
            ),
            (
                "client_addr = \"LOCALHOST:7001\"",
                String::new(),
                "use 127.0.0.1:7001",
            ),
            // What its own entry among the peers says is most likely right.
            (
                "peer_addr = \"0.0.0.0:7021\"",
                peer("db7:7021"),
                "advertise_peer_addr = \"db7:7021\"",
            ),
            (
                "advertise_peer_addr = \"0.0.0.0:7021\"",
                String::new(),
                "can't be told to other nodes",
            ),
            (
                "advertise_client_addr = \"db1.example\"",
                String::new(),
                "add a port, as in db1.example:7001",
            ),
            (
                "client_addr = \"db1.example:7001\"",
                String::new(),
                "0.0.0.0:7001 for all of them",
            ),
            ("client_addr = \"::1:7001\"", String::new(), "into brackets"),
            ("", peer("0.0.0.0:7021"), "no place to connect to"),
            // One entry of two nodes' files that differ.
            ("", peer("db7:7021"), "advertise_peer_addr = \"db7:7021\""),
        ] {
            let error = load(lines, &peers).unwrap_err();
            assert!(error.contains(says), "{lines} {peers}: {error}");
        }
    }

    #[test]
    fn all_that_is_to_be_added_is_said_at_once() {
        let everywhere = "client_addr = \"0.0.0.0:7001\"\npeer_addr = \"0.0.0.0:7021\"\n\
                          http_addr = \"[::]:7041\"\n";
        let error = load(everywhere, "").unwrap_err();
        for says in [
            "advertise_client_addr = \"db1.example:7001\"",
            "advertise_peer_addr = \"db1.example:7021\"",
            "advertise_http_addr = \"db1.example:7041\"",
        ] {
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn who_is_told_a_loopback_address_by_another_machine_is_said() {
        let here = peer_of("us-2", "localhost:7022") + &peer_of("us-3", "[::1]:7023");
        assert_eq!(load("", &here).unwrap().cautions(), [""; 0]);
        let elsewhere = here + &peer_of("us-4", "db4:7021");
        let cautions = load("", &elsewhere).unwrap().cautions();
        assert!(cautions[0].contains("advertise_peer_addr"), "{cautions:?}");
        let told = "peer_addr = \"10.0.0.1:7021\"\n";
        let cautions = load(told, &elsewhere).unwrap().cautions();
        let is_lost = cautions.iter().any(|c| c.contains("which is themselves"));
        assert!(!is_lost, "{cautions:?}");
    }

    #[test]
    fn who_can_be_reached_is_told_once_what_that_means() {
        let open = "client_addr = \"10.0.0.1:7001\"\npeer_addr = \"10.0.0.1:7021\"\n";
        let cautions = load(open, "").unwrap().cautions();
        assert!(cautions[0].contains("turned away"), "{cautions:?}");
        assert!(cautions[1].contains("firewall"), "{cautions:?}");
        let cautions = load(&format!("{open}protected_mode = false\n"), "")
            .unwrap()
            .cautions();
        assert!(
            cautions[0].contains("protected_mode is off"),
            "{cautions:?}"
        );
        assert_eq!(cautions.len(), 2);
    }

    #[test]
    fn what_is_packaged_and_documented_starts_and_only_containers_are_open() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let node = Config::load(&root.join("packaging/node.toml")).unwrap();
        assert!(node.protected_mode && node.cautions().is_empty());
        let alone = Config::load(&root.join("packaging/container.toml")).unwrap();
        assert_eq!(alone.advertised_client_addr().to_string(), "localhost:7001");
        let running = std::fs::read_to_string(root.join("docs/running.md")).unwrap();
        let (_, rest) = running.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        let one_of_three = Config::load(&file).unwrap();
        for container in [&alone, &one_of_three] {
            assert!(container.client_addr.ip().is_unspecified() && !container.protected_mode);
        }
        assert_eq!(one_of_three.cautions().len(), 2);
    }
}
