//! Bytes to [`Frame`]s.
//!
//! The decoder takes each value off the front of the input as soon as it is complete, and
//! keeps what is open on a stack; so nothing is read twice, and nothing recurses.
//!
//! ```text
//! input   *2\r\n :1\r\n %1\r\n +k\r\n $5\r\nhel          (more to come)
//! open    [array, 1 of 2 there] [map, 1 of 2 there]
//! bulk    5 bytes wanted
//! ```

use super::Frame;
use crate::{ProtocolError, number::parse_integer, room};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// How large a reply may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of one string.
    pub bulk_len_max: usize,
    /// Bytes of a line, such as an error.
    pub line_len_max: usize,
    /// Bytes of one frame in all, as sent.
    pub frame_len_max: usize,
    /// Values of one frame in all, at every depth; each takes about 40 bytes of memory.
    pub values_max: usize,
    /// How deep aggregates may be nested; 0 allows none.
    pub depth_max: usize,
}

impl Default for FrameLimits {
    /// 512 MiB a string, 64 KiB a line, 1 GiB a frame, 16 Mi values, 32 deep.
    fn default() -> Self {
        FrameLimits {
            bulk_len_max: 512 << 20,
            line_len_max: 64 << 10,
            frame_len_max: 1 << 30,
            values_max: 16 << 20,
            depth_max: 32,
        }
    }
}

/// Decodes the frames of one connection.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: FrameLimits,
    /// Aggregates that are not complete, the outermost first; at most `depth_max`.
    open: Vec<Open>,
    /// A string whose length is known and whose bytes are not all there.
    bulk: Option<(BulkKind, usize)>,
    /// Bytes of the current frame that are taken, and those announced by `bulk`.
    taken: usize,
    /// Values that the current frame has announced.
    values: usize,
    /// At least this many bytes are missing.
    missing: usize,
    /// The length of the input when that was found.
    seen: usize,
    /// What was wrong. It stays wrong, since there is no boundary to go on from.
    failed: Option<ProtocolError>,
}

/// An aggregate that waits for values.
#[derive(Debug)]
struct Open {
    kind: Aggregate,
    /// Values that are still to come; never zero.
    left: usize,
    values: Vec<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Array,
    Set,
    Push,
    Map,
    /// Its pairs are dropped, and the value that it describes follows.
    Attribute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BulkKind {
    Bulk,
    Error,
    Verbatim,
}

/// What the front of the input holds.
enum Item {
    Value(Frame),
    Open(Aggregate, usize),
    Bulk(BulkKind, usize),
}

impl FrameDecoder {
    /// A decoder for a new connection.
    pub fn new(limits: FrameLimits) -> Self {
        FrameDecoder {
            limits,
            open: Vec::new(),
            bulk: None,
            taken: 0,
            values: 0,
            missing: 1,
            seen: 0,
            failed: None,
        }
    }

    /// Takes the next frame off the front of `input`; `None` if it is not complete yet. Then
    /// part of it may be taken already: go on with the same decoder. The strings of the frame
    /// share the input's memory.
    ///
    /// # Errors
    /// Bytes that are not RESP, streamed aggregates (`*?`), and replies beyond a limit. The
    /// connection must be closed: every later call returns the same error.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance(input)
            .inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// After `decode` returned `None`: how many bytes to make room for before reading on. At
    /// least one, never more than are missing for sure, and bounded by what has arrived.
    pub fn needed(&self) -> usize {
        room(self.missing, self.seen)
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        loop {
            let value = match self.bulk {
                Some((kind, len)) => self.bulk_value(kind, len, input)?,
                None => match self.item(input)? {
                    None => None,
                    Some(Item::Bulk(kind, len)) => {
                        self.bulk = Some((kind, len));
                        continue;
                    }
                    Some(Item::Open(kind, count)) => match self.open(kind, count)? {
                        None => continue,
                        empty => empty,
                    },
                    Some(Item::Value(value)) => Some(value),
                },
            };
            let Some(value) = value else {
                let wanted = self.bulk.map_or(1, |(_, len)| len + 2);
                self.missing = wanted.saturating_sub(input.len());
                self.seen = input.len();
                return Ok(None);
            };
            if let Some(frame) = self.close(value) {
                self.taken = 0;
                self.values = 0;
                return Ok(Some(frame));
            }
        }
    }

    /// Reads one line, which is a value or begins one.
    fn item(&mut self, input: &mut BytesMut) -> Result<Option<Item>, ProtocolError> {
        let Some(kind) = input.first().copied() else {
            return Ok(None);
        };
        if !b"+-:$*_,#(!=%~>|".contains(&kind) {
            return Err(ProtocolError::UnknownType(kind));
        }
        let Some(line) = self.line(input)? else {
            return Ok(None);
        };
        let text = &line[..];
        let value = match kind {
            b'+' => Frame::Simple(line),
            b'-' => Frame::Error(line),
            b':' => Frame::Integer(parse(text).ok_or(ProtocolError::InvalidReply("integer"))?),
            b',' => Frame::Double(parse(text).ok_or(ProtocolError::InvalidReply("double"))?),
            b'#' => match text {
                b"t" => Frame::Boolean(true),
                b"f" => Frame::Boolean(false),
                _ => return Err(ProtocolError::InvalidReply("boolean")),
            },
            b'(' => match is_big_number(text) {
                true => Frame::BigNumber(line),
                false => return Err(ProtocolError::InvalidReply("big number")),
            },
            b'_' => match text {
                b"" => Frame::Null,
                _ => return Err(ProtocolError::InvalidReply("null")),
            },
            b'$' if text == b"-1" => Frame::Null,
            b'*' if text == b"-1" => Frame::NullArray,
            b'$' => return self.bulk_item(BulkKind::Bulk, text),
            b'!' => return self.bulk_item(BulkKind::Error, text),
            b'=' => return self.bulk_item(BulkKind::Verbatim, text),
            b'*' => return open_item(Aggregate::Array, text),
            b'%' => return open_item(Aggregate::Map, text),
            b'~' => return open_item(Aggregate::Set, text),
            b'>' => return open_item(Aggregate::Push, text),
            b'|' => return open_item(Aggregate::Attribute, text),
            other => return Err(ProtocolError::UnknownType(other)),
        };
        Ok(Some(Item::Value(value)))
    }

    /// Takes the line at the front, without its type and its end.
    fn line(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, ProtocolError> {
        let limit = self.limits.line_len_max;
        let within = input.get(..=limit).unwrap_or(input);
        let Some(end) = memchr(b'\r', within) else {
            if input.len() > limit {
                return Err(self.beyond("a line's bytes", limit));
            }
            return Ok(None);
        };
        match input.get(end + 1) {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err(ProtocolError::InvalidReply("line end")),
        }
        self.take(end + 2)?;
        let mut line = input.split_to(end + 2).freeze();
        line.truncate(end);
        line.advance(1);
        if memchr(b'\n', &line).is_some() {
            return Err(ProtocolError::InvalidReply("line end"));
        }
        Ok(Some(line))
    }

    fn bulk_item(&mut self, kind: BulkKind, text: &[u8]) -> Result<Option<Item>, ProtocolError> {
        let len = length(text).ok_or(ProtocolError::InvalidReply("string length"))?;
        if len > self.limits.bulk_len_max {
            return Err(self.beyond("a string's bytes", self.limits.bulk_len_max));
        }
        if kind == BulkKind::Verbatim && len < 4 {
            return Err(ProtocolError::InvalidReply("verbatim string"));
        }
        self.take(len.saturating_add(2))?;
        Ok(Some(Item::Bulk(kind, len)))
    }

    /// Takes the string whose length is known, once all of it is there.
    fn bulk_value(
        &mut self,
        kind: BulkKind,
        len: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Frame>, ProtocolError> {
        match input.get(len..len + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err(ProtocolError::InvalidReply("string end")),
        }
        self.bulk = None;
        let mut text = input.split_to(len + 2).freeze();
        text.truncate(len);
        Ok(Some(match kind {
            BulkKind::Bulk => Frame::Bulk(text),
            BulkKind::Error => Frame::BlobError(text),
            BulkKind::Verbatim => match *text {
                [a, b, c, b':', ..] => {
                    text.advance(4);
                    let format = [a, b, c];
                    Frame::Verbatim { format, text }
                }
                _ => return Err(ProtocolError::InvalidReply("verbatim string")),
            },
        }))
    }

    /// Opens an aggregate; an empty one is a value at once, an empty attribute nothing.
    fn open(&mut self, kind: Aggregate, count: usize) -> Result<Option<Frame>, ProtocolError> {
        let values = match kind {
            Aggregate::Map | Aggregate::Attribute => count.saturating_mul(2),
            _ => count,
        };
        self.values = self.values.saturating_add(values);
        if self.values > self.limits.values_max {
            return Err(self.beyond("values", self.limits.values_max));
        }
        if self.open.len() >= self.limits.depth_max {
            return Err(self.beyond("nesting", self.limits.depth_max));
        }
        if values == 0 {
            return Ok(finished(kind, Vec::new()));
        }
        // The list grows with what arrives: a count is only an announcement.
        self.open.push(Open {
            kind,
            left: values,
            values: Vec::new(),
        });
        Ok(None)
    }

    /// Puts a value where it belongs, and closes what it completes; returns the frame if that
    /// is all of it.
    fn close(&mut self, mut value: Frame) -> Option<Frame> {
        while let Some(open) = self.open.last_mut() {
            if open.kind != Aggregate::Attribute {
                open.values.push(value);
            }
            open.left -= 1;
            if open.left > 0 {
                return None;
            }
            let open = self.open.pop()?;
            value = finished(open.kind, open.values)?;
        }
        Some(value)
    }

    /// Counts bytes of the current frame.
    fn take(&mut self, len: usize) -> Result<(), ProtocolError> {
        self.taken = self.taken.saturating_add(len);
        if self.taken > self.limits.frame_len_max {
            return Err(self.beyond("a frame's bytes", self.limits.frame_len_max));
        }
        Ok(())
    }

    fn beyond(&self, what: &'static str, limit: usize) -> ProtocolError {
        ProtocolError::ReplyLimit { what, limit }
    }
}

/// The value of a complete aggregate; none for an attribute.
fn finished(kind: Aggregate, values: Vec<Frame>) -> Option<Frame> {
    Some(match kind {
        Aggregate::Array => Frame::Array(values),
        Aggregate::Set => Frame::Set(values),
        Aggregate::Push => Frame::Push(values),
        Aggregate::Map => {
            let mut values = values.into_iter();
            let mut pairs = Vec::with_capacity(values.len() / 2);
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                pairs.push((key, value));
            }
            Frame::Map(pairs)
        }
        Aggregate::Attribute => return None,
    })
}

fn open_item(kind: Aggregate, text: &[u8]) -> Result<Option<Item>, ProtocolError> {
    let count = length(text).ok_or(ProtocolError::InvalidReply("aggregate length"))?;
    Ok(Some(Item::Open(kind, count)))
}

/// A length or count; two more always fit into the type.
fn length(text: &[u8]) -> Option<usize> {
    let len = isize::try_from(parse_integer(text)?).ok()?;
    usize::try_from(len).ok()
}

/// Numbers of replies may have a `+`, and leading zeros.
fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_big_number(text: &[u8]) -> bool {
    let digits = match text {
        [b'+' | b'-', digits @ ..] => digits,
        digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
