//! redis-rs, a client that nobody here wrote, against the real binary: three nodes, RESP2 and
//! RESP3, pipelines, pools of connections, errors.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // starts and kills a process
#![allow(clippy::unwrap_used, clippy::expect_used)]

use redis::{Client, Commands, Connection, ErrorKind, RedisResult, SetExpiry, SetOptions};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
};

/// A demo of three nodes without links to emulate; ends with the value.
struct Demo {
    process: Child,
    /// Kept open: it says a last word when it stops.
    said: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Demo {
    fn start() -> Self {
        let port = free_ports();
        let mut process = Command::new(env!("CARGO_BIN_EXE_quire"))
            .args(["demo", "--no-workload", "--nodes", "us=2,eu=1", "--wan"])
            .args(["none", "--fsync", "os", "--base-port", &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = said.any(|line| line.unwrap() == "ready");
        assert!(ready, "the demo ended before it was ready");
        Demo {
            process,
            said,
            port,
        }
    }

    fn connect(&self, node: u16, options: &str) -> Connection {
        let url = format!("redis://127.0.0.1:{}/{options}", self.port + node);
        Client::open(url).unwrap().get_connection().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // SIGTERM, so that it stops its children.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let ended = self.said.by_ref().count();
        let status = self.process.wait();
        if !thread::panicking() {
            assert!(status.is_ok_and(|s| s.success()), "after {ended} lines");
        }
    }
}

/// A base port such that the ports that a demo of three takes are free now.
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let from = 21_000 + (std::process::id() % 8_000) as u16;
    (from..)
        .step_by(3)
        .find(|base| (0..3).all(|n| [0, 20, 40].iter().all(|kind| free(base + kind + n))))
        .unwrap()
}

#[test]
fn redis_rs_drives_a_cluster() {
    let demo = Demo::start();
    for options in ["", "?protocol=resp3"] {
        strings_and_hashes(&mut demo.connect(0, options));
        pipelines(&mut demo.connect(2, options));
        errors_are_typed(&mut demo.connect(1, options));
    }
    reads_its_own_writes_from_any_node(&demo);
    many_connections_count_together(&demo);
}

fn strings_and_hashes(c: &mut Connection) {
    let _: () = c.set("rs:text", "grüße").unwrap();
    assert_eq!(c.get::<_, String>("rs:text").unwrap(), "grüße");
    let bytes: Vec<u8> = (0..=255).collect();
    let _: () = c.set("rs:bytes", &bytes).unwrap();
    assert_eq!(c.get::<_, Vec<u8>>("rs:bytes").unwrap(), bytes);
    assert_eq!(c.get::<_, Option<String>>("rs:none").unwrap(), None);
    let expiry = SetOptions::default().with_expiration(SetExpiry::EX(100));
    let _: () = c.set_options("rs:short", 1, expiry).unwrap();
    assert!((1..=100).contains(&c.ttl::<_, i64>("rs:short").unwrap()));

    let _: () = c.del("rs:user").unwrap();
    let fields = [("name", "Ada"), ("city", "London")];
    let _: () = c.hset_multiple("rs:user", &fields).unwrap();
    assert_eq!(c.hincr::<_, _, _, i64>("rs:user", "visits", 2).unwrap(), 2);
    let all: BTreeMap<String, String> = c.hgetall("rs:user").unwrap();
    let expected = [("name", "Ada"), ("city", "London"), ("visits", "2")];
    assert_eq!(
        all,
        expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert!(c.hexists::<_, _, bool>("rs:user", "city").unwrap());
    let found: Vec<Option<String>> = redis::cmd("MGET")
        .arg(&["rs:text", "rs:none"])
        .query(c)
        .unwrap();
    assert_eq!(found, [Some("grüße".to_owned()), None]);
}

fn pipelines(c: &mut Connection) {
    let (set, got, counted): (String, String, i64) = redis::pipe()
        .set("rs:p", "1")
        .get("rs:p")
        .incr("rs:p", 41)
        .query(c)
        .unwrap();
    assert_eq!((set.as_str(), got.as_str(), counted), ("OK", "1", 42));
    let mut many = redis::pipe();
    for n in 0..1000 {
        many.set(format!("rs:many:{n}"), n).ignore();
    }
    many.get("rs:many:999");
    assert_eq!(many.query::<(i64,)>(c).unwrap(), (999,));
    let mut keys: Vec<String> = c
        .scan_match("rs:many:*")
        .unwrap()
        .map(|k| k.unwrap())
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 1000);
}

fn errors_are_typed(c: &mut Connection) {
    let _: () = c.set("rs:text", "x").unwrap();
    let wrong: RedisResult<i64> = c.hlen("rs:text");
    assert_eq!(wrong.unwrap_err().code(), Some("WRONGTYPE"));
    let wrong: RedisResult<i64> = c.incr("rs:text", 1);
    assert!(matches!(wrong.unwrap_err().kind(), ErrorKind::Server(_)));
    // The connection goes on.
    assert_eq!(redis::cmd("PING").query::<String>(c).unwrap(), "PONG");
}

fn reads_its_own_writes_from_any_node(demo: &Demo) {
    for node in 0..3 {
        let mut c = demo.connect(node, "");
        for n in 0..200 {
            let _: () = c.set("rs:own", format!("{node}:{n}")).unwrap();
            assert_eq!(c.get::<_, String>("rs:own").unwrap(), format!("{node}:{n}"));
        }
    }
}

fn many_connections_count_together(demo: &Demo) {
    thread::scope(|scope| {
        for n in 0..12 {
            scope.spawn(move || {
                let mut c = demo.connect(n % 3, "");
                for _ in 0..50 {
                    let _: i64 = c.incr("rs:together", 1).unwrap();
                }
            });
        }
    });
    let mut primary = demo.connect(0, "");
    assert_eq!(primary.get::<_, i64>("rs:together").unwrap(), 600);
}
