//! The HTTP address: `GET /health` answers 200 `ok` while the node runs; everything else 404.
//! One request a connection, of at most 8 KiB, within 5 s; what can't be a request is answered
//! 400 at once, so that whoever speaks another protocol here learns it.

use crate::accept::Acceptor;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::timeout,
};

const REQUEST_LEN_MAX: usize = 8 << 10;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers for as long as the node runs, so many at a time.
pub(crate) async fn listen(listener: TcpListener, connections_max: usize) {
    let open = Rc::new(Cell::new(0));
    let mut acceptor = Acceptor::new(listener, "an HTTP client");
    loop {
        let (stream, _) = acceptor.next().await;
        if open.get() < connections_max {
            open.set(open.get() + 1);
            let open = open.clone();
            spawn_local(async move {
                // A client that is too slow or gone gets no answer.
                let _ = timeout(TIMEOUT, serve(stream)).await;
                open.set(open.get() - 1);
            });
        }
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() >= REQUEST_LEN_MAX {
            return answer(&mut stream, "431 Request Header Fields Too Large", "").await;
        }
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(part.get(..read).unwrap_or_default());
        if request.contains(&b'\r') && !is_http(first_line(&request)) {
            break;
        }
    }
    let line = first_line(&request);
    match line.split(|b| *b == b' ').collect::<Vec<_>>().as_slice() {
        [b"GET", b"/health", _] => answer(&mut stream, "200 OK", "ok\n").await,
        [_, _, version] if version.starts_with(b"HTTP/1.") => {
            answer(&mut stream, "404 Not Found", "not found\n").await
        }
        _ => answer(&mut stream, "400 Bad Request", "bad request\n").await,
    }
}

fn first_line(request: &[u8]) -> &[u8] {
    request.split(|b| *b == b'\r').next().unwrap_or_default()
}

fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(|b| *b == b' ');
    words.nth(2).is_some_and(|w| w.starts_with(b"HTTP/1."))
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await
}
