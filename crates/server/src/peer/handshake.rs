//! What opens a connection between nodes: a hello from the side that connects, an answer from
//! the side that accepts. Both are frames (see [`super::frame`]); the payloads, little endian:
//!
//! ```text
//! hello   magic "QUIREPER" │ version u16 │ lane u8 (0 ordinary, 1 bulk) │ session u64
//!         │ cluster │ from: node id │ to: node id          each text: len u8 │ bytes
//! answer  magic "QUIREPER" │ version u16 │ reason: text, empty if accepted
//! ```
//!
//! `magic` and `version` stand first in every version, so that two versions can tell each
//! other what is wrong.

use super::frame;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::NodeId;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MAGIC: &[u8; 8] = b"QUIREPER";
/// Of the handshake and of everything that nodes send each other.
pub(crate) const VERSION: u16 = 1;
/// Bytes of a hello or an answer, at most.
const LEN_MAX: usize = 1024;
/// For the whole handshake.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Who connects to whom, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) bulk: bool,
    /// Tells the links of one node apart; the connections of one link share it.
    pub(crate) session: u64,
    pub(crate) cluster: String,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
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
    Refused(String),
}

impl Hello {
    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = start();
        out.put_u8(self.bulk.into());
        out.put_u64_le(self.session);
        put_text(&mut out, &self.cluster);
        put_text(&mut out, self.from.as_str());
        put_text(&mut out, self.to.as_str());
        out
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, HandshakeError> {
        let mut rest = check_start(payload)?;
        let read = (|| {
            let lane = rest.try_get_u8().ok().filter(|lane| *lane < 2)?;
            let session = rest.try_get_u64_le().ok()?;
            Some(Hello {
                bulk: lane == 1,
                session,
                cluster: get_text(&mut rest)?,
                from: NodeId::new(&get_text(&mut rest)?).ok()?,
                to: NodeId::new(&get_text(&mut rest)?).ok()?,
            })
        })();
        read.filter(|_| rest.is_empty())
            .ok_or(HandshakeError::Garbage)
    }

    /// Why a node of `cluster` called `id` does not accept this.
    pub(crate) fn refusal(&self, cluster: &str, id: &NodeId) -> Option<String> {
        if self.cluster != cluster {
            Some(format!(
                "this is cluster '{cluster}', not '{}': check cluster.name and the peers' addresses",
                self.cluster
            ))
        } else if self.to != *id {
            Some(format!(
                "this is node '{id}', not '{}': check the peers' addresses",
                self.to
            ))
        } else if self.from == *id {
            Some(format!("two nodes are called '{id}': give each its own id"))
        } else {
            None
        }
    }

    /// The connecting side: sends the hello and reads the answer.
    pub(crate) async fn offer(&self, stream: &mut TcpStream) -> Result<(), HandshakeError> {
        let run = async {
            write(stream, &self.encode()).await?;
            let mut rest = check_start(read(stream).await?)?;
            let reason = get_text(&mut rest).ok_or(HandshakeError::Garbage)?;
            match reason.is_empty() {
                true => Ok(()),
                false => Err(HandshakeError::Refused(reason)),
            }
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
    refusal: Option<&str>,
) -> Result<(), HandshakeError> {
    let mut out = start();
    put_text(&mut out, refusal.unwrap_or_default());
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
    let cut = (0..=text.len().min(255)).rev().find(fits).unwrap_or(0);
    out.put_u8(cut as u8);
    out.put_slice(text.get(..cut).unwrap_or_default().as_bytes());
}

fn get_text(rest: &mut Bytes) -> Option<String> {
    let len = usize::from(rest.try_get_u8().ok()?);
    if rest.len() < len {
        return None;
    }
    String::from_utf8(rest.split_to(len).into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            bulk: true,
            session: 7,
            cluster: "demo".into(),
            from: NodeId::new("a").unwrap(),
            to: NodeId::new("b").unwrap(),
        }
    }

    /// The bytes of version 1.
    #[test]
    fn a_hello_is_what_it_was() {
        let bytes = b"QUIREPER\x01\0\x01\x07\0\0\0\0\0\0\0\x04demo\x01a\x01b";
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
        assert!(hello().refusal("other", &b).unwrap().contains("other"));
        assert!(hello().refusal("demo", &a).unwrap().contains("'b'"));
        let twin = Hello {
            from: b.clone(),
            ..hello()
        };
        assert!(twin.refusal("demo", &b).unwrap().contains("two nodes"));
    }
}
