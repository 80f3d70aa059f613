//! What opens a connection between nodes: a hello from the side that connects, an answer from
//! the side that accepts. Both are frames (see [`super::frame`]); the payloads, little endian:
//!
//! ```text
//! hello   magic "QUIREPER" │ version u16 │ lane u8 (0 ordinary, 1 bulk, 2 control) │ session u64
//!         │ cluster │ from: node id │ to: node id          each text: len u16 │ bytes
//!         │ boot of `from`: disk, process, nonce, log, intact since, each u64
//! answer  magic "QUIREPER" │ version u16 │ kind u8 │ reason: text
//!         kinds: 0 accepted, 1 refused, 2 the disk of `from` is stale, 3 its id is taken
//! ```
//!
//! `magic` and `version` stand first in every version, so that two versions can tell each
//! other what is wrong.

use super::frame;
use crate::host::{Lane, NotAdmitted};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{Boot, DiskId, NodeId};
use std::{fmt, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MAGIC: &[u8; 8] = b"QUIREPER";
/// Of the handshake and of everything that nodes send each other.
pub(crate) const VERSION: u16 = 3;
/// Bytes of a hello or an answer, at most.
const LEN_MAX: usize = 1024;
/// Bytes of a text in them, at most.
const TEXT_MAX: usize = 512;
/// For the whole handshake.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Who connects to whom, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Which of the link's connections it is; bypass messages go over the ordinary one.
    pub(crate) lane: Lane,
    /// Tells the links of one node apart; the connections of one link share it.
    pub(crate) session: u64,
    pub(crate) cluster: String,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The start of `from` that connects.
    pub(crate) boot: Boot,
}

/// Why a hello is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What it says of itself does not fit this node.
    Other(String),
    /// The node does not let it in.
    NotAdmitted(NotAdmitted),
}

impl Refusal {
    pub(crate) fn other(line: &str) -> Self {
        Refusal::Other(line.to_owned())
    }

    /// Its kind, and the reason.
    fn parts(&self) -> (u8, &str) {
        match self {
            Refusal::Other(line) => (1, line),
            Refusal::NotAdmitted(NotAdmitted::Stale(line)) => (2, line),
            Refusal::NotAdmitted(NotAdmitted::Taken(line)) => (3, line),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.parts().1)
    }
}

/// Why two nodes don't speak.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no handshake within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the other side doesn't speak the peer protocol: is it a client, or a wrong port?")]
    Garbage,
    #[error(
        "the other side speaks version {theirs} of the peer protocol, this node {VERSION}: run the same release on both"
    )]
    Version { theirs: u16 },
    #[error("{0}")]
    Refused(Refusal),
}

impl Hello {
    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = start();
        out.put_u8(match self.lane {
            Lane::Ordinary | Lane::Bypass => 0,
            Lane::Bulk => 1,
            Lane::Control => 2,
        });
        out.put_u64_le(self.session);
        put_text(&mut out, &self.cluster);
        put_text(&mut out, self.from.as_str());
        put_text(&mut out, self.to.as_str());
        let boot = &self.boot;
        for number in [
            boot.disk.0,
            boot.process,
            boot.nonce,
            boot.log,
            boot.intact_since,
        ] {
            out.put_u64_le(number);
        }
        out
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, HandshakeError> {
        let mut rest = check_start(payload)?;
        let read = (|| {
            let lane = match rest.try_get_u8().ok()? {
                0 => Lane::Ordinary,
                1 => Lane::Bulk,
                2 => Lane::Control,
                _ => return None,
            };
            let session = rest.try_get_u64_le().ok()?;
            Some(Hello {
                lane,
                session,
                cluster: get_text(&mut rest)?,
                from: NodeId::new(&get_text(&mut rest)?).ok()?,
                to: NodeId::new(&get_text(&mut rest)?).ok()?,
                boot: get_boot(&mut rest)?,
            })
        })();
        read.filter(|_| rest.is_empty())
            .ok_or(HandshakeError::Garbage)
    }

    /// Why a node of `cluster` called `id` does not accept this.
    pub(crate) fn refusal(&self, cluster: &str, id: &NodeId) -> Option<Refusal> {
        if self.cluster != cluster {
            Some(Refusal::Other(format!(
                "this is cluster '{cluster}', not '{}': check cluster.name and the peers' addresses",
                self.cluster
            )))
        } else if self.to != *id {
            Some(Refusal::Other(format!(
                "this is node '{id}', not '{}': check the peers' addresses",
                self.to
            )))
        } else if self.from == *id {
            let line = format!("two nodes are called '{id}': give each its own id");
            Some(Refusal::NotAdmitted(NotAdmitted::Taken(line)))
        } else {
            None
        }
    }

    /// The connecting side: sends the hello and reads the answer.
    pub(crate) async fn offer(&self, stream: &mut TcpStream) -> Result<(), HandshakeError> {
        let run = async {
            write(stream, &self.encode()).await?;
            let mut rest = check_start(read(stream).await?)?;
            let kind = rest.try_get_u8().map_err(|_| HandshakeError::Garbage)?;
            let reason = get_text(&mut rest).ok_or(HandshakeError::Garbage)?;
            Err(HandshakeError::Refused(match kind {
                0 => return Ok(()),
                1 => Refusal::Other(reason),
                2 => Refusal::NotAdmitted(NotAdmitted::Stale(reason)),
                3 => Refusal::NotAdmitted(NotAdmitted::Taken(reason)),
                _ => return Err(HandshakeError::Garbage),
            }))
        };
        limited(run).await
    }

    /// The accepting side: reads the hello. An [`answer`] must follow.
    pub(crate) async fn receive(stream: &mut TcpStream) -> Result<Self, HandshakeError> {
        limited(async { Hello::decode(read(stream).await?) }).await
    }
}

/// Accepts (`None`) or refuses a hello.
pub(crate) async fn answer(
    stream: &mut TcpStream,
    refusal: Option<&Refusal>,
) -> Result<(), HandshakeError> {
    let mut out = start();
    let (kind, reason) = refusal.map_or((0, ""), Refusal::parts);
    out.put_u8(kind);
    put_text(&mut out, reason);
    limited(write(stream, &out)).await
}

async fn limited<T>(
    run: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(TIMEOUT, run)
        .await
        .unwrap_or(Err(HandshakeError::Timeout))
}

async fn write(stream: &mut TcpStream, payload: &[u8]) -> Result<(), HandshakeError> {
    let mut out = BytesMut::new();
    frame::encode(payload, &mut out);
    Ok(stream.write_all(&out).await?)
}

/// Reads one frame and not a byte more: messages may follow at once.
async fn read(stream: &mut TcpStream) -> Result<Bytes, HandshakeError> {
    let mut input = BytesMut::zeroed(frame::HEADER_LEN);
    stream.read_exact(&mut input).await?;
    let len = input.clone().get_u32_le() as usize;
    if len > LEN_MAX {
        return Err(HandshakeError::Garbage);
    }
    input.resize(frame::HEADER_LEN + len, 0);
    let payload = input.get_mut(frame::HEADER_LEN..).unwrap_or_default();
    stream.read_exact(payload).await?;
    match frame::decode(&mut input, LEN_MAX) {
        Ok(Some(payload)) => Ok(payload),
        _ => Err(HandshakeError::Garbage),
    }
}

fn start() -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(MAGIC);
    out.put_u16_le(VERSION);
    out
}

fn check_start(mut payload: Bytes) -> Result<Bytes, HandshakeError> {
    if !payload.starts_with(MAGIC) {
        return Err(HandshakeError::Garbage);
    }
    payload.advance(MAGIC.len());
    match payload.try_get_u16_le() {
        Ok(VERSION) => Ok(payload),
        Ok(theirs) => Err(HandshakeError::Version { theirs }),
        Err(_) => Err(HandshakeError::Garbage),
    }
}

/// Texts are names of at most 64 bytes, or reasons; a longer one is cut.
fn put_text(out: &mut BytesMut, text: &str) {
    let fits = |cut: &usize| text.is_char_boundary(*cut);
    let cut = (0..=text.len().min(TEXT_MAX)).rev().find(fits).unwrap_or(0);
    out.put_u16_le(cut as u16);
    out.put_slice(text.get(..cut).unwrap_or_default().as_bytes());
}

fn get_boot(rest: &mut Bytes) -> Option<Boot> {
    let mut number = || rest.try_get_u64_le().ok();
    Some(Boot {
        disk: DiskId(number()?),
        process: number()?,
        nonce: number()?,
        log: number()?,
        intact_since: number()?,
    })
}

fn get_text(rest: &mut Bytes) -> Option<String> {
    let len = usize::from(rest.try_get_u16_le().ok()?);
    if len > TEXT_MAX || rest.len() < len {
        return None;
    }
    String::from_utf8(rest.split_to(len).into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            lane: Lane::Bulk,
            session: 7,
            cluster: "demo".into(),
            from: NodeId::new("a").unwrap(),
            to: NodeId::new("b").unwrap(),
            boot: Boot {
                disk: DiskId(1),
                process: 2,
                nonce: 3,
                log: 4,
                intact_since: 5,
            },
        }
    }

    /// The bytes of version 3.
    #[test]
    fn a_hello_is_what_it_was() {
        let bytes = b"QUIREPER\x03\0\x01\x07\0\0\0\0\0\0\0\x04\0demo\x01\0a\x01\0b\
            \x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0";
        assert_eq!(hello().encode().as_ref(), bytes);
        assert_eq!(Hello::decode(Bytes::from_static(bytes)).unwrap(), hello());
    }

    #[test]
    fn a_hello_is_read_back_and_a_cut_one_is_not() {
        let wire = hello().encode().freeze();
        assert_eq!(Hello::decode(wire.clone()).unwrap(), hello());
        for cut in 0..wire.len() {
            assert!(Hello::decode(wire.slice(..cut)).is_err(), "cut at {cut}");
        }
        let mut newer = BytesMut::from(&wire[..]);
        newer[8] = 9;
        assert!(matches!(
            Hello::decode(newer.freeze()),
            Err(HandshakeError::Version { theirs: 9 })
        ));
    }

    #[test]
    fn refusals_name_what_differs() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        assert_eq!(hello().refusal("demo", &b), None);
        assert!(
            hello()
                .refusal("other", &b)
                .unwrap()
                .to_string()
                .contains("other")
        );
        assert!(
            hello()
                .refusal("demo", &a)
                .unwrap()
                .to_string()
                .contains("'b'")
        );
        let twin = Hello {
            from: b.clone(),
            ..hello()
        };
        assert!(
            twin.refusal("demo", &b)
                .unwrap()
                .to_string()
                .contains("two nodes")
        );
    }
}
