//! Before the measuring: the connection's own keys get their first values.
//!
//! In: the keys that the generator calls the connection's own. Out: how many were written.
//! Each is written, with numbers that the checks then know.

use super::{Connection, REPLY_TIMEOUT_NS, read_reply};
use crate::bench::scan;
use indicatif::ProgressBar;
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

/// Requests in flight at most.
const IN_FLIGHT_MAX: usize = 512;
/// How often, and how long apart, first values are written that were refused.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

impl Connection {
    /// Writes the own keys; `bar` advances by one for each of them.
    pub(in crate::bench) async fn fill(&mut self, bar: &ProgressBar) -> Result<u64, String> {
        let keys: Vec<u32> = self.generator.ownership.own().collect();
        for keys in keys.chunks(IN_FLIGHT_MAX) {
            self.write(keys.to_vec()).await?;
            bar.inc(keys.len() as u64);
        }
        Ok(keys.len() as u64)
    }

    /// What a busy or failing-over cluster did not take is written again, for a while.
    async fn write(&mut self, mut left: Vec<u32>) -> Result<(), String> {
        let mut tries = 0;
        loop {
            let mut out = Vec::new();
            let mut requests = Vec::new();
            for key in left.drain(..) {
                requests.push(self.generator.fill(key, &mut out));
            }
            self.send_all(&out).await?;
            let mut refused = String::new();
            for request in requests {
                let len = self.next_reply().await?;
                match scan::error_of(&self.received[..len]) {
                    Some(error) => {
                        refused = String::from_utf8_lossy(error).into_owned();
                        left.push(request.key);
                    }
                    None => self.session.acknowledged(request.key, request.number),
                }
                self.received.drain(..len);
            }
            if left.is_empty() {
                return Ok(());
            }
            tries += 1;
            if tries == TRIES {
                let addr = &self.addr;
                return Err(format!("{addr}: a first value was refused: {refused}"));
            }
            sleep(PAUSE).await;
        }
    }

    async fn send_all(&mut self, out: &[u8]) -> Result<(), String> {
        let addr = &self.addr;
        match &mut self.stream {
            Some(stream) => {
                let sent = stream.write_all(out).await;
                sent.map_err(|e| format!("{addr}: {e}"))
            }
            None => Err(format!("{addr}: not connected")),
        }
    }

    /// Waits until `received` starts with a whole reply; its length.
    async fn next_reply(&mut self) -> Result<usize, String> {
        let addr = &self.addr;
        let Some(stream) = &mut self.stream else {
            return Err(format!("{addr}: not connected"));
        };
        let wait = Duration::from_nanos(REPLY_TIMEOUT_NS);
        timeout(wait, read_reply(stream, &mut self.received))
            .await
            .map_err(|_| format!("{addr}: no reply within {wait:?}"))?
            .map_err(|e| format!("{addr}: {e}"))
    }
}
