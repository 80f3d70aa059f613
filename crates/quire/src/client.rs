//! A small client: one connection to one node, requests out, frames in.
//!
//! Every wait is bounded: [`CONNECT_TIMEOUT`] for the connection, before it as long for its name,
//! and a reply timeout for each answer, so that a command ends within two seconds and a half
//! whatever the node does. Requests may be pipelined: [`Client::push`] any number,
//! [`Client::flush`], then [`Client::pull`] as many replies, in the same order.

use crate::{address, connect::connect};
use bytes::BytesMut;
use resp::{Frame, FrameDecoder, FrameLimits, encode_command};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a name may take to be resolved, and then a connection to stand.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a reply may take, where the command doesn't say otherwise. Together with a connection
/// to an IP it stays below the two seconds that an administrator is made to wait.
const REPLY_TIMEOUT: Duration = Duration::from_millis(1_400);

/// Names the node to speak to where no argument does.
pub(crate) const NODE_ENV: &str = "QUIRE_NODE";
/// The first node of `quire demo`.
pub(crate) const NODE_DEFAULT: &str = "127.0.0.1:7001";

/// Which node to speak to.
#[derive(clap::Args)]
pub(crate) struct NodeArg {
    /// Any node of the cluster: its client address.
    #[arg(
        long = "node",
        value_name = "ADDR",
        env = NODE_ENV,
        default_value = NODE_DEFAULT,
        value_parser = address::parse,
        global = true
    )]
    pub(crate) addr: String,
}

impl NodeArg {
    pub(crate) async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.addr).await
    }

    /// Reads the JSON that the node answered: `what`, for people.
    pub(crate) fn read<T: DeserializeOwned>(&self, json: &str, what: &str) -> Result<T, String> {
        let unreadable = |e| format!("{} answered {what} that can't be read: {e}", self.addr);
        serde_json::from_str(json).map_err(unreadable)
    }
}

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers there.
    #[error(
        "can't connect to {addr}: {cause}; start the node, or name another with --node ADDR or {NODE_ENV}"
    )]
    Connect { addr: String, cause: String },
    /// The connection stands, the answer doesn't come.
    #[error("{addr} did not answer within {waited:?}; try another node with --node ADDR")]
    NoReply { addr: String, waited: Duration },
    /// The connection broke after something had come over it.
    #[error(
        "the connection to {addr} was lost: {source}; whether the request was carried out is unknown"
    )]
    Lost { addr: String, source: io::Error },
    /// The connection broke before anything came over it.
    #[error(
        "{addr} closed the connection without an answer ({source}), as a node's peer address does: name its client address; if that is what it is, whether the request was carried out is unknown"
    )]
    Closed { addr: String, source: io::Error },
    /// Something else answers there.
    #[error("{addr} is not a Quire node: {found}; name a node's client address with --node ADDR")]
    NotQuire { addr: String, found: String },
    /// The node refused.
    #[error("{0}")]
    Refused(String),
    /// An answer of another kind than agreed.
    #[error(
        "the node answered {found} where {expected} was expected; is it a Quire node of this version?"
    )]
    Unexpected {
        expected: &'static str,
        found: &'static str,
    },
}

/// One connection.
pub(crate) struct Client {
    addr: String,
    stream: TcpStream,
    decoder: FrameDecoder,
    received: BytesMut,
    out: BytesMut,
    reply_timeout: Duration,
    /// Whether anything has come.
    heard: bool,
}

impl Client {
    pub(crate) async fn connect(addr: &str) -> Result<Self, ClientError> {
        Client::connect_within(addr, CONNECT_TIMEOUT).await
    }

    pub(crate) async fn connect_within(addr: &str, wait: Duration) -> Result<Self, ClientError> {
        let failed = |cause: String| ClientError::Connect {
            addr: addr.into(),
            cause,
        };
        let stream = connect(addr, wait).await.map_err(failed)?;
        stream
            .set_nodelay(true)
            .map_err(|e| failed(e.to_string()))?;
        Ok(Client {
            addr: addr.into(),
            stream,
            decoder: FrameDecoder::new(FrameLimits::default()),
            received: BytesMut::new(),
            out: BytesMut::new(),
            reply_timeout: REPLY_TIMEOUT,
            heard: false,
        })
    }

    /// From now on a reply may take this long.
    pub(crate) fn set_reply_timeout(&mut self, reply_timeout: Duration) {
        self.reply_timeout = reply_timeout;
    }

    /// Puts a request into the pipeline; [`flush`](Self::flush) sends it.
    pub(crate) fn push<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        encode_command(args.iter().map(AsRef::as_ref), &mut self.out);
    }

    /// Where [`push`](Self::push) puts a request that is encoded already.
    pub(crate) fn pipeline(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Bytes that were pushed and not yet sent.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len()
    }

    /// Sends what was pushed.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        let sent = timeout(self.reply_timeout, self.stream.write_all(&self.out)).await;
        let sent = sent.map_err(|_| self.no_reply())?;
        sent.map_err(|e| self.lost(e))?;
        self.out.clear();
        Ok(())
    }

    /// The next reply, errors of the node included.
    pub(crate) async fn pull(&mut self) -> Result<Frame, ClientError> {
        let pulled = timeout(self.reply_timeout, async {
            loop {
                let begins: Vec<u8> = self.received.iter().take(8).copied().collect();
                let decoded = self.decoder.decode(&mut self.received);
                if let Some(frame) = decoded.map_err(|e| ClientError::NotQuire {
                    addr: self.addr.clone(),
                    found: speaks(&begins, &e),
                })? {
                    return Ok(frame);
                }
                let read = self.stream.read_buf(&mut self.received).await;
                if read.map_err(|e| self.lost(e))? == 0 {
                    return Err(self.lost(io::ErrorKind::UnexpectedEof.into()));
                }
                self.heard = true;
            }
        })
        .await;
        pulled.unwrap_or_else(|_| Err(self.no_reply()))
    }

    /// One request and its reply; an error of the node is an error here.
    pub(crate) async fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Frame, ClientError> {
        self.push(args);
        self.flush().await?;
        let reply = self.pull().await?;
        match refusal(&reply) {
            Some(refusal) if is_unknown(args[0].as_ref(), &refusal) => Err(ClientError::NotQuire {
                addr: self.addr.clone(),
                found: format!("a server answers there that says '{refusal}'; Redis does"),
            }),
            Some(refusal) => Err(ClientError::Refused(refusal)),
            None => Ok(reply),
        }
    }

    fn no_reply(&self) -> ClientError {
        ClientError::NoReply {
            addr: self.addr.clone(),
            waited: self.reply_timeout,
        }
    }

    fn lost(&self, source: io::Error) -> ClientError {
        let addr = self.addr.clone();
        if self.heard {
            ClientError::Lost { addr, source }
        } else {
            ClientError::Closed { addr, source }
        }
    }
}

/// What a server speaks whose answer begins like this and is not RESP.
fn speaks(begins: &[u8], error: &resp::ProtocolError) -> String {
    match begins {
        [b'H', b'T', b'T', b'P', ..] | [b'<', ..] => {
            "an HTTP server answers there (a node's HTTP address is not its client address)".into()
        }
        // An alert, or a handshake.
        [0x15 | 0x16, 3, ..] => "a TLS server answers there".into(),
        _ => format!("what answers there does not speak RESP ({error})"),
    }
}

/// Whether a server that says `refusal` lacks a command that every Quire node has.
fn is_unknown(command: &[u8], refusal: &str) -> bool {
    matches!(command, b"QUIRE" | b"KEYSPACE")
        && refusal
            .to_ascii_lowercase()
            .starts_with("err unknown command")
}

/// What the node said when it refused, if `reply` is a refusal.
pub(crate) fn refusal(reply: &Frame) -> Option<String> {
    let error = reply.as_error()?;
    Some(String::from_utf8_lossy(error).into_owned())
}

/// The text of a string reply.
pub(crate) fn text_of(reply: Frame) -> Result<String, ClientError> {
    match reply.as_bytes() {
        Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        None => Err(ClientError::Unexpected {
            expected: "text",
            found: kind(&reply),
        }),
    }
}

/// Nothing, if `reply` is `+OK`.
pub(crate) fn expect_ok(reply: Frame) -> Result<(), ClientError> {
    match reply.as_bytes() {
        Some(text) if &text[..] == b"OK" => Ok(()),
        _ => Err(ClientError::Unexpected {
            expected: "OK",
            found: kind(&reply),
        }),
    }
}

/// A map's reply as a JSON object; RESP2 sends maps as arrays of keys and values.
pub(crate) fn object_of(reply: &Frame) -> Result<serde_json::Map<String, Value>, ClientError> {
    let unexpected = || ClientError::Unexpected {
        expected: "a map",
        found: kind(reply),
    };
    let pairs: Vec<(&Frame, &Frame)> = match reply {
        Frame::Map(pairs) => pairs.iter().map(|(k, v)| (k, v)).collect(),
        Frame::Array(values) if values.len().is_multiple_of(2) => {
            values.chunks(2).map(|pair| (&pair[0], &pair[1])).collect()
        }
        _ => return Err(unexpected()),
    };
    pairs
        .into_iter()
        .map(|(key, value)| {
            let key = key.as_bytes().ok_or_else(unexpected)?;
            Ok((String::from_utf8_lossy(key).into_owned(), json_of(value)))
        })
        .collect()
}

/// A reply as JSON.
fn json_of(reply: &Frame) -> Value {
    match reply {
        Frame::Integer(n) => (*n).into(),
        Frame::Double(x) => (*x).into(),
        Frame::Boolean(yes) => (*yes).into(),
        Frame::Map(_) => object_of(reply).map_or(Value::Null, Value::Object),
        _ => match (reply.as_bytes(), reply.as_values()) {
            (Some(text), _) => String::from_utf8_lossy(text).into_owned().into(),
            (None, Some(values)) => values.iter().map(json_of).collect(),
            (None, None) => Value::Null,
        },
    }
}

fn kind(reply: &Frame) -> &'static str {
    match reply {
        Frame::Simple(_) => "a word",
        Frame::Error(_) | Frame::BlobError(_) => "an error",
        Frame::Integer(_) => "an integer",
        Frame::Null | Frame::NullArray => "nothing",
        Frame::Array(_) => "an array",
        Frame::Map(_) => "a map",
        _ if reply.as_bytes().is_some() => "text",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Frame {
        Frame::Bulk(text.to_string().into())
    }

    #[test]
    fn maps_read_alike_in_both_versions_of_the_protocol() {
        let pairs = vec![
            (bulk("id"), Frame::Integer(0)),
            (bulk("name"), bulk("profiles")),
            (bulk("shards"), Frame::Array(vec![Frame::Integer(7)])),
        ];
        let flat = pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()]);
        let flat = Frame::Array(flat.collect());
        let wanted = r#"{"id":0,"name":"profiles","shards":[7]}"#;
        for frame in [flat, Frame::Map(pairs)] {
            let object = Value::Object(object_of(&frame).unwrap());
            assert_eq!(object.to_string(), wanted);
        }
        assert!(object_of(&Frame::Array(vec![bulk("id")])).is_err());
        assert!(object_of(&bulk("id")).is_err());
    }

    #[test]
    fn what_is_no_quire_node_is_told_by_what_it_says() {
        let error = resp::ProtocolError::UnknownType(b'H');
        assert!(speaks(b"HTTP/1.1 400", &error).contains("HTTP server"));
        assert!(speaks(b"<!DOCTYPE", &error).contains("HTTP server"));
        assert!(speaks(&[0x15, 3, 3, 0], &error).contains("TLS"));
        assert!(speaks(b"ERROR", &error).contains("does not speak RESP"));
        assert!(is_unknown(
            b"QUIRE",
            "ERR unknown command 'QUIRE', with args"
        ));
        assert!(!is_unknown(b"QUIRE", "ERR unknown subcommand"));
        assert!(!is_unknown(b"HSET", "ERR unknown command 'HSET'"));
    }

    #[test]
    fn only_ok_is_ok() {
        assert!(expect_ok(Frame::Simple("OK".into())).is_ok());
        assert!(expect_ok(Frame::Simple("QUEUED".into())).is_err());
        assert!(expect_ok(Frame::Integer(1)).is_err());
    }
}
