//! The server over real loopback sockets, around a small host in memory.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "tests own sockets, threads and deadlines"
)]

mod clients;
mod host;
mod names;
mod peers;

use host::{Shared, TestHost};
use model::{Address, NodeId};
use server::{Config, Listeners, Resolver, ServeError, config::*};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A server in a thread of its own; stopped when dropped.
pub(crate) struct Running {
    pub(crate) client_addr: SocketAddr,
    pub(crate) peer_addr: SocketAddr,
    pub(crate) http_addr: SocketAddr,
    pub(crate) shared: Arc<Mutex<Shared>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn config(name: &str, limits: Limits) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    Config {
        id: id(name),
        region: model::Region::new("r").unwrap(),
        zone: "z".into(),
        client_addr: any,
        peer_addr: any,
        http_addr: any,
        advertise_client_addr: None,
        advertise_peer_addr: None,
        advertise_http_addr: None,
        protected_mode: true,
        data_dir: ".".into(),
        log_filter: None,
        fsync: Fsync::Always,
        cluster: Cluster {
            name: "test".into(),
            control_voters: vec![id(name)],
            peers: Vec::new(),
        },
        limits,
        wan: None,
    }
}

pub(crate) fn start(
    config: Config,
    listeners: Listeners,
    peers: Vec<(NodeId, SocketAddr)>,
) -> Running {
    let at = |(id, at): (NodeId, SocketAddr)| (id, vec![at.into()]);
    let peers = peers.into_iter().map(at).collect();
    start_resolving(config, listeners, peers, Resolver::system())
}

/// `resolver` knows where the names of `peers` lead.
pub(crate) fn start_resolving(
    config: Config,
    listeners: Listeners,
    peers: Vec<(NodeId, Vec<Address>)>,
    resolver: Resolver,
) -> Running {
    let [client_addr, peer_addr, http_addr] = listeners.addresses().unwrap();
    let shared = Arc::new(Mutex::new(Shared::default()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let of_host = shared.clone();
    let thread = std::thread::spawn(move || {
        let host = TestHost::new(of_host, peers);
        let stop = async {
            let _ = stopped.await;
        };
        let (_, reloads) = tokio::sync::watch::channel(config.limits.clone());
        server::serve_with(&config, listeners, host, resolver, stop, reloads)
    });
    Running {
        client_addr,
        peer_addr,
        http_addr,
        shared,
        stop: Some(stop),
        thread: Some(thread),
    }
}

pub(crate) fn start_alone(limits: Limits) -> Running {
    let config = config("a", limits);
    let listeners = Listeners::bind(&config).unwrap();
    start(config, listeners, Vec::new())
}

impl Running {
    pub(crate) fn stop(&mut self) -> Result<(), ServeError> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.join()
    }

    pub(crate) fn join(&mut self) -> Result<(), ServeError> {
        self.thread.take().map_or(Ok(()), |t| t.join().unwrap())
    }

    pub(crate) fn connect(&self) -> TestClient {
        TestClient::new(self.client_addr)
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.shared.lock().unwrap().events.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let result = self.stop();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// Waits until `done`, for as long as a slow machine may need.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct TestClient(BufReader<TcpStream>);

impl TestClient {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        TestClient(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.line()
    }

    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }
}
