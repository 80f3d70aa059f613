use crate::{Running, TestClient, config, id, start, until};
use server::{Listeners, config::Limits};
use std::{io::Read, time::Duration};

/// Two nodes, `a` and `b`, with a link each way.
fn pair() -> (Running, Running) {
    let configs = [
        config("a", Limits::default()),
        config("b", Limits::default()),
    ];
    let [a, b] = configs.each_ref().map(|c| Listeners::bind(c).unwrap());
    let addr = |l: &Listeners| l.addresses().unwrap()[1];
    let (addr_a, addr_b) = (addr(&a), addr(&b));
    let [config_a, config_b] = configs;
    let a = start(config_a, a, vec![(id("b"), addr_b)]);
    let b = start(config_b, b, vec![(id("a"), addr_a)]);
    until("linked", || {
        has(&a, "connected b")
            && has(&b, "connected a")
            && has(&a, "inbound b")
            && has(&b, "inbound a")
    });
    (a, b)
}

pub(crate) fn has(server: &Running, event: &str) -> bool {
    server.events().iter().any(|e| e == event)
}

pub(crate) fn times(server: &Running, event: &str) -> usize {
    server.events().iter().filter(|e| *e == event).count()
}

fn messages(server: &Running, from: &str) -> Vec<String> {
    let start = format!("{from}: ");
    let of_peer = |e: &String| e.strip_prefix(&start).map(str::to_owned);
    server.events().iter().filter_map(of_peer).collect()
}

#[test]
fn messages_arrive_in_order_on_each_lane() {
    let (a, b) = pair();
    let mut client = a.connect();
    for i in 0..2000 {
        client.send(format!("SEND b ordinary o{i}\r\nSEND b bulk k{i}\r\n"));
    }
    until("all there", || messages(&b, "a").len() == 4000);
    for lane in ["o", "k"] {
        let got: Vec<_> = messages(&b, "a")
            .into_iter()
            .filter(|m| m.starts_with(lane))
            .collect();
        let expected: Vec<_> = (0..2000).map(|i| format!("{lane}{i}")).collect();
        assert_eq!(got, expected);
    }
    assert!(messages(&a, "b").is_empty());
}

#[test]
fn a_message_takes_at_least_the_latency_and_bypass_does_not_wait_for_it() {
    let (a, b) = pair();
    let mut client = a.connect();
    client.ask("LINK b 300");
    client.ask("SEND b ordinary slow");
    client.ask("SEND b bulk large");
    client.ask("LINK b 0");
    client.ask("SEND b ordinary next");
    client.ask("SEND b bypass fast");
    until("all there", || messages(&b, "a").len() == 4);
    let got = messages(&b, "a");
    let at = |text: &str| got.iter().position(|m| m == text).unwrap();
    assert!(
        at("fast") < at("slow") && at("slow") < at("next"),
        "{got:?}"
    );
    let sent = a.shared.lock().unwrap().times.clone();
    let came = b.shared.lock().unwrap().times.clone();
    for text in ["slow", "large"] {
        assert!(came[text] - sent[text] >= Duration::from_millis(300));
    }
}

#[test]
fn a_cut_drops_one_way_and_healing_makes_a_new_link() {
    let (a, b) = pair();
    let (mut at_a, mut at_b) = (a.connect(), b.connect());
    at_a.ask("LINK b 5000");
    at_a.ask("SEND b ordinary under-way");
    at_a.ask("LINK b cut");
    at_a.ask("SEND b ordinary lost");
    at_a.ask("SEND b bulk lost-too");
    at_a.ask("SEND b bypass passes");
    at_b.ask("SEND a ordinary other-way");
    until("bypass and the other way pass", || {
        has(&b, "a: passes") && has(&a, "b: other-way")
    });
    assert!(!has(&a, "disconnected b"), "the sender was told");

    at_a.ask("LINK b 0");
    until("made anew", || {
        times(&a, "connected b") == 2 && times(&b, "inbound a") == 2
    });
    at_a.ask("SEND b ordinary after");
    until("it is used", || has(&b, "a: after"));
    assert_eq!(messages(&b, "a"), ["passes", "after"]);
    let of_a: Vec<_> = a
        .events()
        .into_iter()
        .filter(|e| e.ends_with("connected b"))
        .collect();
    assert_eq!(of_a, ["connected b", "disconnected b", "connected b"]);
    assert!(!has(&b, "disconnected a"), "the other way was not touched");
}

#[test]
fn a_peer_that_comes_back_is_linked_again() {
    let (a, mut b) = pair();
    let addr = b.peer_addr;
    b.stop().unwrap();
    until("noticed", || has(&a, "disconnected b"));
    let mut config = config("b", Limits::default());
    config.peer_addr = addr;
    let listeners = Listeners::bind(&config).unwrap();
    let b = start(config, listeners, Vec::new());
    // The accepting side knows first; what is sent before the other does is dropped.
    until("linked again", || {
        has(&b, "inbound a") && times(&a, "connected b") == 2
    });
    a.connect().ask("SEND b ordinary hello");
    until("used", || has(&b, "a: hello"));
}

#[test]
fn nodes_of_another_cluster_or_name_are_refused() {
    let mut other = config("b", Limits::default());
    other.cluster.name = "other".into();
    let listeners = Listeners::bind(&other).unwrap();
    let addr = listeners.addresses().unwrap()[1];
    let b = start(other, listeners, Vec::new());
    let config = config("a", Limits::default());
    let listeners = Listeners::bind(&config).unwrap();
    // Once by its name in another cluster; once by a wrong name.
    let a = start(config, listeners, vec![(id("b"), addr), (id("c"), addr)]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(a.events().is_empty() && b.events().is_empty());
}

#[test]
fn garbage_on_the_peer_port_closes_that_connection_only() {
    let (a, b) = pair();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[8, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut stranger = TestClient::new(b.peer_addr);
        stranger.send(garbage);
        let mut answer = Vec::new();
        // Closed, perhaps by a reset.
        let _ = stranger.0.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    a.connect().ask("SEND b ordinary still");
    until("the link stands", || has(&b, "a: still"));
    assert!(!has(&a, "disconnected b"));
}
