use crate::{TestClient, host::OUTPUT_MAX, start_alone, until};
use server::{ServeError, config::Limits};
use std::{io::Write, net::Shutdown, path::Path};

#[test]
fn pipelined_commands_are_answered_in_order_behind_their_flush() {
    let server = start_alone(Limits::default());
    let mut client = server.connect();
    let mut input = String::new();
    let mut expected = Vec::new();
    for i in 0..5000 {
        if i % 7 == 0 {
            input.push_str("APPEND\r\n");
            expected.push(":1".to_owned());
        } else {
            let text = format!("t{i}");
            input.push_str(&format!(
                "*2\r\n$4\r\nECHO\r\n${}\r\n{text}\r\n",
                text.len()
            ));
            expected.push(format!("+{text}"));
        }
    }
    // In pieces that end anywhere.
    for piece in input.as_bytes().chunks(7919) {
        client.send(piece);
    }
    for line in expected {
        assert_eq!(client.line(), line);
    }
}

/// Two seconds of work come at once: a tick is due every 20 ms, and clients leave time for it.
#[test]
fn busy_clients_let_the_clock_and_peers_come_in_between() {
    let server = start_alone(Limits::default());
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("SPIN\r\n".repeat(250));
    }
    for client in &mut clients {
        for _ in 0..250 {
            assert_eq!(client.line(), "+OK");
        }
    }
    let most = server.shared.lock().unwrap().between_ticks_max;
    assert!(
        (1..120).contains(&most),
        "{most} commands between two ticks"
    );
}

#[test]
fn appends_of_many_clients_share_flushes() {
    let server = start_alone(Limits::default());
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("APPEND\r\n".repeat(50));
    }
    for client in &mut clients {
        for _ in 0..50 {
            assert_eq!(client.line(), ":1");
        }
    }
    let flushes = server.events().len();
    assert!((1..1000).contains(&flushes), "{flushes} flushes");
}

#[test]
fn further_flushes_go_on_while_one_is_synced() {
    let server = start_alone(Limits::default());
    let gate = server.shared.lock().unwrap().sync_gate.clone();
    let synced = gate.lock().unwrap();
    let mut clients: Vec<_> = (0..9).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send("APPEND\r\n");
        let (commands, flushes) = (n + 1, (n + 1).min(4));
        until("taken", || {
            let shared = server.shared.lock().unwrap();
            shared.commands == commands && shared.flushes_max == flushes
        });
    }
    assert_eq!(server.connect().ask("ECHO x"), "+x");
    drop(synced);
    for client in &mut clients {
        assert_eq!(client.line(), ":1");
    }
    assert_eq!(server.shared.lock().unwrap().flushes_max, 4);
}

#[test]
fn large_and_many_argumented_commands_arrive_whole() {
    let server = start_alone(Limits::default());
    let mut client = server.connect();
    let text = "y".repeat(3 << 20);
    client.send(format!("*2\r\n$4\r\nECHO\r\n${}\r\n", text.len()));
    client.send(&text);
    client.send("\r\n");
    assert_eq!(client.line(), format!("+{text}"));
    for count in [1, 15, 16, 17, 300] {
        let args = vec!["COUNT"; count].join(" ");
        assert_eq!(client.ask(&args), format!(":{count}"));
    }
}

#[test]
fn the_host_knows_what_is_held_of_what_is_not_complete_and_only_that_is() {
    let server = start_alone(Limits::default());
    let mut client = server.connect();
    let held = || server.shared.lock().unwrap().query.values().sum::<usize>();
    client.send(format!("*2\r\n$4\r\nECHO\r\n${}\r\n", 4 << 20));
    client.send("y".repeat(3 << 20));
    until("held", || held() >= 3 << 20);
    // What comes right behind does not hold what was before it.
    client.send("y".repeat(1 << 20) + "\r\n*2\r\n$4\r\nEC");
    assert_eq!(client.line().len(), 1 + (4 << 20));
    until("let go", || held() < 128 << 10);
    client.send("HO\r\n$1\r\nx\r\n");
    assert_eq!(client.line(), "+x");
    // Neither do a million places of arguments.
    let count = 300_000;
    client.send(format!("*{count}\r\n$5\r\nCOUNT\r\n") + &"$1\r\nx\r\n".repeat(count - 1));
    assert_eq!(client.line(), format!(":{count}"));
    assert!(server.shared.lock().unwrap().query_max >= count * 8);
    until("let go", || held() < 128 << 10);
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_then_served() {
    let server = start_alone(Limits::default());
    let mut slow = server.connect();
    let writer = slow.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut writer = writer;
        for _ in 0..400 {
            writer.write_all(b"BIG 100000\r\n").unwrap();
        }
        writer.write_all(b"QUIT\r\n").unwrap();
    });
    // Others go on meanwhile.
    assert_eq!(server.connect().ask("ECHO x"), "+x");
    sender.join().unwrap();
    let rest = slow.rest();
    assert_eq!(rest.len(), 400 * 100_000 + "+OK\r\n".len());
    let most = server.shared.lock().unwrap().output_len_max;
    assert!(most < OUTPUT_MAX + 100_000, "{most} bytes of output");
}

#[test]
fn output_beyond_the_limit_closes_the_client() {
    let server = start_alone(Limits {
        output_bytes_max: 32 << 20,
        ..Limits::default()
    });
    let mut client = server.connect();
    client.send("BIG 67108864\r\n");
    until("closed", || {
        server.events().contains(&"client gone".to_owned())
    });
}

#[test]
fn what_is_not_resp_gets_an_error_behind_the_earlier_replies_and_a_close() {
    let server = start_alone(Limits::default());
    let mut client = server.connect();
    client.send("ECHO a\r\nAPPEND\r\n*1\r\n!bad\r\nECHO b\r\n");
    assert_eq!(client.line(), "+a");
    assert_eq!(client.line(), ":1");
    assert!(client.line().starts_with("-ERR Protocol error"));
    assert_eq!(client.rest(), b"");
    assert_eq!(server.connect().ask("ECHO x"), "+x");
}

#[test]
fn quit_is_answered_and_what_follows_is_not() {
    let server = start_alone(Limits::default());
    let mut client = server.connect();
    client.send("ECHO a\r\nQUIT\r\nECHO b\r\n");
    assert_eq!(client.rest(), b"+a\r\n+OK\r\n");
}

#[test]
fn replies_that_are_ready_reach_a_client_that_closed_its_side() {
    let server = start_alone(Limits::default());
    let mut client = server.connect();
    client.send("ECHO a\r\nECHO b\r\n");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"+a\r\n+b\r\n");
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = start_alone(Limits {
        max_clients: 2,
        ..Limits::default()
    });
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        assert_eq!(client.ask("ECHO x"), "+x");
    }
    let refusal = b"-ERR max number of clients reached\r\n";
    let mut third = server.connect();
    assert_eq!(third.rest(), refusal);
    let mut fourth = server.connect();
    fourth.send("ECHO x\r\nECHO y\r\n");
    assert_eq!(fourth.rest(), refusal);
    // There is room for administration, and for nothing else on its connections.
    drop((third, fourth));
    let mut spare = Vec::new();
    until("all eight places for it are free", || {
        let mut client = server.connect();
        client.send("COUNT\r\n");
        if client.line() == ":1" {
            spare.push(client);
        }
        spare.len() == 8
    });
    assert_eq!(server.connect().rest(), refusal);
    spare[0].send("COUNT\r\nECHO x\r\n");
    assert_eq!(spare[0].rest(), [b":1\r\n", &refusal[..]].concat());
    drop(spare);
    drop(clients);
    until("there is room again", || {
        let mut client = server.connect();
        client.send("ECHO x\r\n");
        client.line() == "+x"
    });
}

#[test]
fn a_stop_flushes_and_a_fatal_one_is_an_error() {
    let mut server = start_alone(Limits::default());
    let mut client = server.connect();
    client.send("APPEND\r\nECHO x\r\n");
    until("handled", || server.shared.lock().unwrap().commands == 2);
    server.stop().unwrap();
    assert!(server.events().contains(&"flushed 1".to_owned()));
    assert_eq!(client.line(), ":1");

    let mut server = start_alone(Limits::default());
    server.connect().send("STOP\r\n");
    assert!(matches!(server.join(), Err(ServeError::Stopped(why)) if why == "told to"));
}

#[test]
fn commands_whose_keys_are_being_read_wait_and_nobody_else_does() {
    let mut server = start_alone(Limits::default());
    let gate = server.shared.lock().unwrap().gate.clone();
    let reading = gate.lock().unwrap();
    let (mut cold, mut gone) = (server.connect(), server.connect());
    let mut keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    keys[20] = "cold-20".to_owned();
    keys[21] = "cold-21".to_owned();
    let echo = |key: &String| format!("*2\r\n$4\r\nECHO\r\n${}\r\n{key}\r\n", key.len());
    cold.send(keys.iter().map(echo).collect::<String>());
    gone.send(echo(&keys[20]));
    // The first sixteen don't wait.
    for key in &keys[..16] {
        assert_eq!(cold.line(), format!("+{key}"));
    }
    drop(gone);
    for n in 0..10 {
        assert_eq!(server.connect().ask(&format!("ECHO {n}")), format!("+{n}"));
    }
    assert_eq!(server.shared.lock().unwrap().commands, 16 + 10);
    drop(reading);
    for key in &keys[16..] {
        assert_eq!(cold.line(), format!("+{key}"));
    }
    let ahead = server.shared.lock().unwrap().ahead;
    assert_eq!(ahead, 40 + 1, "each is looked at once");
    server.stop().unwrap();
}

/// The process stood still in the middle of a turn, say.
#[test]
fn what_is_in_doubt_is_kept_back_and_said_later_or_never() {
    let server = start_alone(Limits::default());
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let append = |clients: &mut [TestClient], certain| {
        let commands = {
            let mut shared = server.shared.lock().unwrap();
            shared.certain = Some(certain);
            shared.commands + clients.len()
        };
        for client in clients {
            client.send("APPEND\r\n");
        }
        let flushed = format!("flushed {commands}");
        until("flushed", || server.events().contains(&flushed));
    };
    append(&mut clients, 3);
    server.shared.lock().unwrap().certain = None;
    for client in &mut clients {
        assert_eq!(client.line(), ":1");
    }
    append(&mut clients, 3);
    server.shared.lock().unwrap().void = true;
    let said = clients.iter_mut().map(TestClient::line);
    assert_eq!(said.filter(|line| line == ":1").count(), 3);
}

#[test]
fn strangers_are_told_why_and_are_no_clients() {
    let server = start_alone(Limits::default());
    let mut known = server.connect();
    assert_eq!(known.ask("ECHO before"), "+before");
    let mut shared = server.shared.lock().unwrap();
    shared.strangers = Some("DENIED for a test");
    // The host can't be asked yet, so that each has sent what nobody reads before it is told.
    let mut strangers: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for stranger in &mut strangers {
        stranger.send("ECHO no\r\n".repeat(1000));
    }
    drop(shared);
    for stranger in &mut strangers {
        assert_eq!(stranger.rest(), b"-DENIED for a test\r\n");
    }
    // More than are told at leisure: the others are closed at once.
    let mut more: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for stranger in &mut more {
        assert_eq!(stranger.rest(), b"-DENIED for a test\r\n");
    }
    assert_eq!(known.ask("ECHO after"), "+after");
    assert_eq!(server.shared.lock().unwrap().commands, 2);
    assert!(server.events().is_empty(), "the host never knew them");
}

#[test]
fn health_is_answered_and_nothing_else_is() {
    let server = start_alone(Limits::default());
    for (request, status) in [
        ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        ("GET /metrics HTTP/1.1\r\n\r\n", "404"),
        ("POST /health HTTP/1.1\r\n\r\n", "404"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let mut client = TestClient::new(server.http_addr);
        client.send(request);
        let answer = String::from_utf8(client.rest()).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

/// The RESP codec's corpus of what clients must not send, each over a connection of its own.
#[test]
fn every_malformed_input_gets_its_error_and_harms_nobody_else() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resp/testdata/malformed");
    let index = std::fs::read_to_string(corpus.join("INDEX")).unwrap();
    let server = start_alone(Limits::default());
    let mut bystander = server.connect();
    let mut files = 0;
    for line in index
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let [file, commands, outcome] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not a line of the index: {line}");
        };
        let mut expected = vec!["-ERR unknown".to_owned(); commands.parse().unwrap()];
        if outcome != "open" {
            expected.push(format!("-{outcome}"));
        }
        let mut client = server.connect();
        client.send(std::fs::read(corpus.join(file)).unwrap());
        if outcome == "open" {
            // Not an error yet; its own end is what closes it.
            client.stream().shutdown(Shutdown::Write).unwrap();
        }
        let rest = client.rest();
        let got: Vec<_> = String::from_utf8_lossy(&rest)
            .lines()
            .map(str::to_owned)
            .collect();
        assert_eq!(got, expected, "{file}");
        assert_eq!(bystander.ask("ECHO x"), "+x", "after {file}");
        files += 1;
    }
    assert!(files > 50, "{files} files");
}
