//! Peers that are known by name.

use crate::{Running, config, id, peers::*, start, start_resolving, until};
use model::Address;
use server::{Listeners, Resolver, config::Limits};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
};

/// What names mean, as a test has it, and how often that was asked.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<(Vec<SocketAddr>, usize)>>);

impl Names {
    fn mean(&self, places: &[SocketAddr]) {
        self.0.lock().unwrap().0 = places.to_vec();
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn resolver(&self) -> Resolver {
        let names = self.clone();
        Resolver::new(move |name: &Address| {
            assert_eq!(name.to_string(), "db2.example:7021");
            let (places, asked) = &mut *names.0.lock().unwrap();
            *asked += 1;
            match places.is_empty() {
                true => Err(io::Error::other("no such name")),
                false => Ok(places.clone()),
            }
        })
    }
}

/// Node `a`, which knows `b` by a name.
fn start_a(resolver: Resolver) -> Running {
    let config = config("a", Limits::default());
    let listeners = Listeners::bind(&config).unwrap();
    let peers = vec![(id("b"), "db2.example:7021".parse().unwrap())];
    start_resolving(config, listeners, peers, resolver)
}

fn start_as(name: &str) -> Running {
    let config = config(name, Limits::default());
    let listeners = Listeners::bind(&config).unwrap();
    start(config, listeners, Vec::new())
}

/// A port at which nobody listens.
fn nowhere() -> SocketAddr {
    let listeners = Listeners::bind(&config("x", Limits::default())).unwrap();
    listeners.addresses().unwrap()[1]
}

#[test]
fn a_name_is_resolved_at_each_connect_and_not_in_between() {
    let names = Names::default();
    let a = start_a(names.resolver());
    until("it is tried on while nobody knows the name", || {
        names.asked() >= 3
    });
    let mut b = start_as("b");
    names.mean(&[b.peer_addr]);
    until("linked", || has(&b, "inbound a") && has(&a, "connected b"));
    let asked = names.asked();
    // It comes back elsewhere, before the link to where it was is missed.
    let elsewhere = start_as("b");
    names.mean(&[elsewhere.peer_addr]);
    let mut client = a.connect();
    for lane in ["ordinary", "bulk"] {
        client.ask(&format!("SEND b {lane} one-{lane}"));
        until("it came", || has(&b, &format!("a: one-{lane}")));
    }
    assert_eq!(names.asked(), asked, "the link is up");
    b.stop().unwrap();
    until("linked there", || {
        has(&elsewhere, "inbound a") && times(&a, "connected b") == 2
    });
    client.ask("SEND b bulk two");
    until("it came there", || has(&elsewhere, "a: two"));
    assert!(names.asked() > asked);
    assert!(!has(&b, "a: two"));
}

#[test]
fn of_several_places_that_one_is_taken_where_the_peer_answers() {
    let names = Names::default();
    let (b, c) = (start_as("b"), start_as("c"));
    names.mean(&[nowhere(), c.peer_addr, b.peer_addr]);
    let a = start_a(names.resolver());
    until("linked", || has(&b, "inbound a") && has(&a, "connected b"));
    let mut client = a.connect();
    for lane in ["ordinary", "bulk"] {
        client.ask(&format!("SEND b {lane} to-{lane}"));
        until("it came", || has(&b, &format!("a: to-{lane}")));
    }
    assert!(c.events().is_empty(), "another node takes nothing");
}

#[test]
fn a_resolver_that_hangs_holds_up_neither_the_node_nor_its_end() {
    let (go_on, hangs) = mpsc::channel::<()>();
    let (tell_asked, asked) = mpsc::channel();
    let hangs = Mutex::new(hangs);
    let mut a = start_a(Resolver::new(move |_| {
        tell_asked.send(()).unwrap();
        let _ = hangs.lock().unwrap().recv();
        Err(io::ErrorKind::TimedOut.into())
    }));
    asked.recv().unwrap();
    let mut client = a.connect();
    assert_eq!(client.ask("ECHO still"), "+still");
    a.stop().unwrap();
    drop(go_on);
}
