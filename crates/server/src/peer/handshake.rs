//! What opens a connection between nodes: a hello from the side that connects, an answer from
//! the side that accepts. Both are frames (see [`super::frame`]); the payloads, little endian:
//!
//! ```text
//! hello   magic "QUIREPER" │ newest u16 │ oldest u16
//!         │ lane u8 (0 ordinary, 1 bulk, 2 control) │ session u64
//!         │ cluster │ from: node id │ to: node id          each text: len u16 │ bytes
//!         │ boot of `from`: disk, process, nonce, log, intact since, each u64
//!         │ feature levels of `from`: oldest, newest, the cluster's as it knows it, each u32
//! answer  magic "QUIREPER" │ newest u16 │ oldest u16 │ kind u8 │ reason: text
//!         kinds: 0 accepted, 1 refused, 2 the disk of `from` is stale, 3 its id is taken,
//!         4 its release is older than the cluster's feature level
//! ```
//!
//! `newest` and `oldest` are the protocol versions that a side speaks; the connection speaks the
//! newest of both. `magic` and they stand first in every version, so that two sides without a
//! common one can tell each other. What follows may grow at its end, which is stepped over by
//! whoever does not know it, and an answer of a kind that is not known is a refusal.

use super::frame;
use crate::host::{Introduction, Lane, NotAdmitted};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{Boot, DiskId, NodeId, Release, release::Span};
use std::{fmt, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MAGIC: &[u8; 8] = b"QUIREPER";
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
    /// The start of `from` that connects, and what its release can work with.
    pub(crate) introduced: Introduction,
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
            Refusal::NotAdmitted(NotAdmitted::Outdated(line)) => (4, line),
            Refusal::NotAdmitted(NotAdmitted::Unfit(line)) => (1, line),
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
        "the other side speaks versions {theirs} of the peer protocol, this node {ours}: run the same release on both, or two neighbouring ones"
    )]
    Versions { theirs: Span, ours: Span },
    #[error("{0}")]
    Refused(Refusal),
}

impl Hello {
    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = start(self.introduced.release.protocol);
        out.put_u8(match self.lane {
            Lane::Ordinary | Lane::Bypass => 0,
            Lane::Bulk => 1,
            Lane::Control => 2,
        });
        out.put_u64_le(self.session);
        put_text(&mut out, &self.cluster);
        put_text(&mut out, self.from.as_str());
        put_text(&mut out, self.to.as_str());
        let boot = &self.introduced.boot;
        for number in [
            boot.disk.0,
            boot.process,
            boot.nonce,
            boot.log,
            boot.intact_since,
        ] {
            out.put_u64_le(number);
        }
        let levels = self.introduced.release.levels;
        for level in [levels.oldest, levels.newest, self.introduced.level] {
            out.put_u32_le(level);
        }
        out
    }

    /// Reads a hello at a side that speaks `ours`.
    pub(crate) fn decode(payload: Bytes, ours: Span) -> Result<Self, HandshakeError> {
        let (protocol, mut rest) = check_start(payload, ours)?;
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
                introduced: Introduction {
                    boot: get_boot(&mut rest)?,
                    release: Release {
                        protocol,
                        levels: Span {
                            oldest: rest.try_get_u32_le().ok()?,
                            newest: rest.try_get_u32_le().ok()?,
                        },
                    },
                    level: rest.try_get_u32_le().ok()?,
                },
            })
        })();
        read.ok_or(HandshakeError::Garbage)
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

    /// The connecting side: sends the hello and reads the answer. Returns the protocol version that
    /// the connection speaks.
    pub(crate) async fn offer(&self, stream: &mut TcpStream) -> Result<u32, HandshakeError> {
        let ours = self.introduced.release.protocol;
        let run = async {
            write(stream, &self.encode()).await?;
            let (theirs, mut rest) = check_start(read(stream).await?, ours)?;
            let kind = rest.try_get_u8().map_err(|_| HandshakeError::Garbage)?;
            let reason = get_text(&mut rest).ok_or(HandshakeError::Garbage)?;
            Err(HandshakeError::Refused(match kind {
                0 => return ours.common(&theirs).ok_or(unlike(theirs, ours)),
                2 => Refusal::NotAdmitted(NotAdmitted::Stale(reason)),
                3 => Refusal::NotAdmitted(NotAdmitted::Taken(reason)),
                4 => Refusal::NotAdmitted(NotAdmitted::Outdated(reason)),
                _ => Refusal::Other(reason),
            }))
        };
        limited(run).await
    }

    /// The accepting side: reads the hello. An [`answer`] must follow.
    pub(crate) async fn receive(
        stream: &mut TcpStream,
        ours: Span,
    ) -> Result<Self, HandshakeError> {
        limited(async { Hello::decode(read(stream).await?, ours) }).await
    }
}

/// Accepts (`None`) or refuses a hello, at a side that speaks `ours`.
pub(crate) async fn answer(
    stream: &mut TcpStream,
    ours: Span,
    refusal: Option<&Refusal>,
) -> Result<(), HandshakeError> {
    let mut out = start(ours);
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

fn start(protocol: Span) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(MAGIC);
    out.put_u16_le(protocol.newest as u16);
    out.put_u16_le(protocol.oldest as u16);
    out
}

/// What the other side speaks, and what follows.
fn check_start(mut payload: Bytes, ours: Span) -> Result<(Span, Bytes), HandshakeError> {
    if !payload.starts_with(MAGIC) {
        return Err(HandshakeError::Garbage);
    }
    payload.advance(MAGIC.len());
    let mut version = || payload.try_get_u16_le().map(u32::from);
    let (Ok(newest), Ok(oldest)) = (version(), version()) else {
        return Err(HandshakeError::Garbage);
    };
    let theirs = Span { oldest, newest };
    match ours.common(&theirs) {
        Some(_) => Ok((theirs, payload)),
        None => Err(unlike(theirs, ours)),
    }
}

fn unlike(theirs: Span, ours: Span) -> HandshakeError {
    HandshakeError::Versions { theirs, ours }
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
            introduced: Introduction {
                boot: Boot {
                    disk: DiskId(1),
                    process: 2,
                    nonce: 3,
                    log: 4,
                    intact_since: 5,
                },
                release: Release {
                    protocol: OURS,
                    levels: Span {
                        oldest: 6,
                        newest: 7,
                    },
                },
                level: 6,
            },
        }
    }

    const OURS: Span = Release::THIS.protocol;

    /// The bytes of version 4.
    #[test]
    fn a_hello_is_what_it_was() {
        let bytes = b"QUIREPER\x04\0\x04\0\x01\x07\0\0\0\0\0\0\0\x04\0demo\x01\0a\x01\0b\
            \x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\
            \x06\0\0\0\x07\0\0\0\x06\0\0\0";
        assert_eq!(hello().encode().as_ref(), bytes);
        assert_eq!(
            Hello::decode(Bytes::from_static(bytes), OURS).unwrap(),
            hello()
        );
    }

    #[test]
    fn a_hello_is_read_back_and_a_cut_one_is_not() {
        let wire = hello().encode().freeze();
        assert_eq!(Hello::decode(wire.clone(), OURS).unwrap(), hello());
        for cut in 0..wire.len() {
            let cut_off = Hello::decode(wire.slice(..cut), OURS);
            assert!(cut_off.is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_hello_of_another_release_is_read_if_there_is_a_common_version() {
        let of = |oldest: u8, newest: u8, more: &[u8]| {
            let mut bytes = hello().encode();
            bytes[8] = newest;
            bytes[10] = oldest;
            bytes.put_slice(more);
            Hello::decode(bytes.freeze(), OURS)
        };
        // A later one may say more.
        let read = of(4, 9, b"more").unwrap();
        assert_eq!(OURS.common(&read.introduced.release.protocol), Some(4));
        let error = of(5, 9, b"").unwrap_err().to_string();
        assert!(
            error.contains("5 to 9") && error.contains("4 alone"),
            "{error}"
        );
        assert!(of(2, 3, b"").is_err());
    }

    /// What each side of a connection finds that offers, and takes, these versions.
    fn meet(offers: Span, takes: Span) -> [Result<u32, String>; 2] {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let accepts = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let received = Hello::receive(&mut stream, takes).await;
                let refusal = received.as_ref().err().map(ToString::to_string);
                let refusal = refusal.map(|line| Refusal::other(&line));
                answer(&mut stream, takes, refusal.as_ref()).await.unwrap();
                let spoken = |hello: Hello| takes.common(&hello.introduced.release.protocol);
                received.map(|hello| spoken(hello).unwrap())
            };
            let connects = async {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                let mut hello = hello();
                hello.introduced.release.protocol = offers;
                hello.offer(&mut stream).await
            };
            let (connected, accepted) = tokio::join!(connects, accepts);
            [connected, accepted].map(|found| found.map_err(|error| error.to_string()))
        })
    }

    #[test]
    fn two_sides_speak_the_newest_of_both_or_each_says_what_both_speak() {
        let span = |oldest, newest| Span { oldest, newest };
        assert_eq!(meet(span(4, 5), span(5, 6)), [Ok(5), Ok(5)]);
        assert_eq!(meet(span(4, 5), span(3, 4)), [Ok(4), Ok(4)]);
        let [connects, accepts] = meet(span(4, 5), span(6, 7));
        let [connects, accepts] = [connects.unwrap_err(), accepts.unwrap_err()];
        assert!(
            connects.contains("speaks versions 6 to 7") && connects.contains("this node 4 to 5")
        );
        assert!(accepts.contains("speaks versions 4 to 5") && accepts.contains("this node 6 to 7"));
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
