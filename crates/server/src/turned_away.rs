//! Clients that are turned away before the host knows of them. Each is told why, and what it has
//! sent by then is read away for a moment: closed over unread bytes, a connection is reset, and
//! the line is lost on its way. Few may take that moment at a time; the others are closed at once.

use crate::descriptors::TURNED_AWAY;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_local,
    time::timeout,
};

/// For what they still send.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read away at once.
const READ_LEN: usize = 4 << 10;

/// Those that are being turned away.
#[derive(Clone, Default)]
pub(crate) struct TurnedAway {
    open: Rc<Cell<usize>>,
}

impl TurnedAway {
    /// Tells a client `line` and closes its connection.
    pub(crate) fn tell(&self, mut stream: TcpStream, line: &str) {
        // One small write into an empty socket buffer; if it fails the client learns less.
        let _ = stream.try_write(format!("-{line}\r\n").as_bytes());
        if self.open.get() >= TURNED_AWAY {
            return;
        }
        self.open.set(self.open.get() + 1);
        let open = self.open.clone();
        spawn_local(async move {
            let _ = timeout(LINGER, async {
                stream.shutdown().await?;
                let mut sent = [0; READ_LEN];
                while stream.read(&mut sent).await? > 0 {}
                std::io::Result::Ok(())
            })
            .await;
            open.set(open.get() - 1);
        });
    }
}
