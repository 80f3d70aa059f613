//! Before the measuring: the connection's own keys get their first values.
//!
//! In: the keys that the generator calls the connection's own. Out: how many were written.
//! Most workloads write each of them, with numbers that the checks then know. Records of YCSB
//! are kept from run to run, so of these only those that are absent, or lack fields (an update
//! makes a record of one field where there is none), are written.

use super::{Connection, REPLY_TIMEOUT_NS, read_reply};
use crate::bench::{scan, ycsb};
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
        let own: Vec<u32> = self.generator.ownership.own().collect();
        let keys = if self.generator.workload().is_ycsb() {
            self.incomplete(&own).await?
        } else {
            own.clone()
        };
        bar.inc((own.len() - keys.len()) as u64);
        for keys in keys.chunks(IN_FLIGHT_MAX) {
            self.write(keys.to_vec()).await?;
            bar.inc(keys.len() as u64);
        }
        Ok(keys.len() as u64)
    }

    /// Those of `keys` that are no whole records of YCSB.
    pub(in crate::bench) async fn incomplete(&mut self, keys: &[u32]) -> Result<Vec<u32>, String> {
        let mut incomplete = Vec::new();
        let whole = format!(":{}\r\n", ycsb::FIELDS);
        for keys in keys.chunks(IN_FLIGHT_MAX) {
            let mut out = Vec::new();
            for key in keys {
                self.generator.count_fields(*key, &mut out);
            }
            self.send_all(&out).await?;
            for key in keys {
                let len = self.next_reply().await?;
                let reply = &self.received[..len];
                if let Some(error) = scan::error_of(reply) {
                    let error = String::from_utf8_lossy(error);
                    return Err(format!("{}: a record can't be used: {error}", self.addr));
                }
                if reply != whole.as_bytes() {
                    incomplete.push(*key);
                }
                self.received.drain(..len);
            }
        }
        Ok(incomplete)
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
