//! What the server alone costs: a hash map behind it, and a real fdatasync of what each batch
//! of SETs wrote. An upper bound for a node.
//!
//! `cargo run --release -p server --example echo_kv -- 127.0.0.1:7001 /path/of/log`

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "a measuring tool: it owns a file, and stops at the first fault"
)]

use bytes::{Bytes, BytesMut};
use model::{Address, Boot, NodeId, Now, Release};
use rustc_hash::{FxHashMap, FxHashSet};
use server::{Config, ConnId, Effect, Host, Introduction, LinkState};
use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Default)]
struct Conn {
    output: BytesMut,
    /// Replies that wait for the next flush, and for the one under way.
    waiting: BytesMut,
    syncing: BytesMut,
}

struct Kv {
    file: Arc<Mutex<File>>,
    map: FxHashMap<Vec<u8>, Bytes>,
    conns: FxHashMap<ConnId, Conn>,
    log: Vec<u8>,
    writers: FxHashSet<ConnId>,
    flushing: FxHashSet<ConnId>,
    effects: VecDeque<Effect>,
    commands: u64,
    flushes: u64,
}

impl Host for Kv {
    type Flush = (Arc<Mutex<File>>, Vec<u8>);
    type Written = ();
    type Synced = Vec<u8>;

    fn client_connected(&mut self, conn: ConnId, _: SocketAddr, _: Now) {
        self.conns.insert(conn, Conn::default());
    }
    fn client_disconnected(&mut self, conn: ConnId, _: Now) {
        self.conns.remove(&conn);
    }
    fn client_command(&mut self, conn: ConnId, args: &[&[u8]], _: Now) {
        self.commands += 1;
        let out = self.conns.get_mut(&conn).unwrap();
        match args {
            [verb, key, value] if verb.eq_ignore_ascii_case(b"SET") => {
                self.map.insert(key.to_vec(), Bytes::copy_from_slice(value));
                self.log.extend_from_slice(key);
                self.log.extend_from_slice(value);
                out.waiting.extend_from_slice(b"+OK\r\n");
                self.writers.insert(conn);
                return;
            }
            [verb, key] if verb.eq_ignore_ascii_case(b"GET") => match self.map.get(*key) {
                Some(value) => {
                    out.output
                        .extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                    out.output.extend_from_slice(value);
                    out.output.extend_from_slice(b"\r\n");
                }
                None => out.output.extend_from_slice(b"$-1\r\n"),
            },
            _ => out.output.extend_from_slice(b"*0\r\n"),
        }
        self.effects.push_back(Effect::ClientOutput(conn));
    }
    fn client_protocol_error(&mut self, conn: ConnId, _: &str, _: Now) {
        self.effects.push_back(Effect::CloseClient(conn));
    }
    fn client_accepts(&mut self, _: ConnId) -> bool {
        true
    }
    fn client_output(&mut self, conn: ConnId) -> &mut BytesMut {
        &mut self.conns.get_mut(&conn).unwrap().output
    }
    fn peer_connected(&mut self, _: &NodeId, _: Now) {}
    fn peer_disconnected(&mut self, _: &NodeId, _: Now) {}
    fn introduction(&self) -> Introduction {
        Introduction {
            boot: Boot::default(),
            release: Release::THIS,
            level: 1,
        }
    }
    fn peer_inbound(&mut self, _: &NodeId, _: &Introduction, _: Now) {}
    fn peer_message(&mut self, _: &NodeId, _: Bytes, _: Now) {}
    fn peers(&self) -> Vec<(NodeId, Vec<Address>)> {
        Vec::new()
    }
    fn link(&self, _: &NodeId) -> LinkState {
        LinkState::Up(Duration::ZERO)
    }
    fn take_flush(&mut self, _: Now) -> Option<Self::Flush> {
        if self.log.is_empty() || !self.flushing.is_empty() {
            return None;
        }
        std::mem::swap(&mut self.writers, &mut self.flushing);
        self.flushes += 1;
        for conn in &self.flushing {
            if let Some(conn) = self.conns.get_mut(conn) {
                std::mem::swap(&mut conn.waiting, &mut conn.syncing);
            }
        }
        Some((self.file.clone(), std::mem::take(&mut self.log)))
    }
    fn flush_written(&mut self, (): (), _: Now) {}
    fn flush_synced(&mut self, mut log: Vec<u8>, _: Now) {
        log.clear();
        if self.log.is_empty() {
            self.log = log;
        }
        for id in self.flushing.drain() {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.output.extend_from_slice(&conn.syncing);
                conn.syncing.clear();
                self.effects.push_back(Effect::ClientOutput(id));
            }
        }
    }
    fn tick(&mut self, now: Now) {
        if now.monotonic.as_millis() % 1000 < 20 && self.commands > 0 {
            eprintln!("{} commands, {} flushes", self.commands, self.flushes);
            (self.commands, self.flushes) = (0, 0);
        }
    }
    fn wake_at(&self) -> Option<std::time::Duration> {
        None
    }
    fn wake(&mut self, _now: Now) {}
    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
    fn run_flush((file, log): Self::Flush, _: impl FnOnce(())) -> Vec<u8> {
        let mut file = file.lock().unwrap();
        file.write_all(&log).unwrap();
        file.sync_data().unwrap();
        drop(file);
        log
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let client = args.next().unwrap();
    let log = args.next().unwrap();
    let config = format!(
        "id='n'\nregion='r'\nzone='z'\nclient_addr='{client}'\npeer_addr='127.0.0.1:0'\n\
         http_addr='127.0.0.1:0'\nadvertise_peer_addr='localhost:1'\n\
         advertise_http_addr='localhost:2'\ndata_dir='.'\n[cluster]\nname='c'\ncontrol_voters=['n']\n"
    );
    let path = format!("{log}.toml");
    std::fs::write(&path, config).unwrap();
    let config = Config::load(path.as_ref()).unwrap();
    let host = Kv {
        file: Arc::new(Mutex::new(File::create(log).unwrap())),
        map: FxHashMap::default(),
        conns: FxHashMap::default(),
        log: Vec::new(),
        writers: FxHashSet::default(),
        flushing: FxHashSet::default(),
        effects: VecDeque::new(),
        commands: 0,
        flushes: 0,
    };
    server::serve(&config, host).unwrap();
}
