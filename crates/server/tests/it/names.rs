//! Peers that are known by name.

use crate::{Running, config, id, peers::*, start, start_resolving, until};
use model::Address;
use server::{Listeners, Resolver, config::Limits};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread,
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
            if name.to_string() != "db2.example:7021" {
                return Err(io::Error::other("another name"));
            }
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
    let peers = vec![(id("b"), vec!["db2.example:7021".parse().unwrap()])];
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
fn a_peer_is_reached_at_its_other_address_where_the_first_leads_nowhere() {
    let names = Names::default();
    let (b, c) = (start_as("b"), start_as("c"));
    names.mean(&[b.peer_addr]);
    // A name that nobody knows, a port at which nobody is, another node.
    for first in [
        "db9.example:1".parse().unwrap(),
        nowhere().into(),
        Address::from(c.peer_addr),
    ] {
        let config = config("a", Limits::default());
        let listeners = Listeners::bind(&config).unwrap();
        let peers = vec![(
            id("b"),
            vec![first.clone(), "db2.example:7021".parse().unwrap()],
        )];
        let mut a = start_resolving(config, listeners, peers, names.resolver());
        until("linked", || has(&a, "connected b"));
        let mut client = a.connect();
        client.ask(&format!("SEND b bulk behind-{first}"));
        until("it came", || has(&b, &format!("a: behind-{first}")));
        a.stop().unwrap();
    }
    assert!(c.events().is_empty(), "another node takes nothing");
}

/// A process that stands still keeps its connections, and so does a machine that is cut off.
#[test]
fn a_link_follows_its_peer_though_the_process_at_the_former_place_is_silent() {
    let names = Names::default();
    let config = |name| config(name, Limits::default());
    let [at_a, at_b, elsewhere] =
        ["a", "b", "b"].map(|name| Listeners::bind(&config(name)).unwrap());
    let place = |listeners: &Listeners| listeners.addresses().unwrap()[1];
    let (place_a, place_elsewhere) = (place(&at_a), place(&elsewhere));
    names.mean(&[place(&at_b)]);
    let by_name = vec![(id("b"), vec!["db2.example:7021".parse().unwrap()])];
    let a = start_resolving(config("a"), at_a, by_name, names.resolver());
    let former = start(config("b"), at_b, vec![(id("a"), place_a)]);
    until("linked", || {
        has(&a, "connected b") && has(&a, "inbound b") && has(&former, "inbound a")
    });
    let (go_on, waits) = mpsc::channel::<()>();
    let (tell, stands_still) = mpsc::channel();
    let shared = former.shared.clone();
    thread::spawn(move || {
        let _held = shared.lock().unwrap();
        tell.send(()).unwrap();
        let _ = waits.recv();
    });
    stands_still.recv().unwrap();
    names.mean(&[place_elsewhere]);
    let later = start(config("b"), elsewhere, vec![(id("a"), place_a)]);
    until("the link is made there", || {
        has(&later, "inbound a") && times(&a, "connected b") == 2
    });
    a.connect().ask("SEND b ordinary here");
    until("it came there", || has(&later, "a: here"));
    drop(go_on);
}

#[test]
fn a_resolver_that_hangs_does_not_keep_from_the_other_address() {
    let b = start_as("b");
    let (go_on, hangs) = mpsc::channel::<()>();
    let hangs = Mutex::new(hangs);
    let resolver = Resolver::new(move |_| {
        let _ = hangs.lock().unwrap().recv();
        Err(io::ErrorKind::TimedOut.into())
    });
    let config = config("a", Limits::default());
    let listeners = Listeners::bind(&config).unwrap();
    let addresses = vec!["db2.example:7021".parse().unwrap(), b.peer_addr.into()];
    let a = start_resolving(config, listeners, vec![(id("b"), addresses)], resolver);
    until("linked", || has(&a, "connected b") && has(&b, "inbound a"));
    drop(go_on);
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
