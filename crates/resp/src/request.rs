//! What clients send: commands, as arrays of bulk strings or as inline lines.
//!
//! ```text
//! *3\r\n $3\r\nSET\r\n $1\r\nk\r\n $5\r\nhello\r\n     what libraries send
//! SET k "hello"\r\n                                    what a person types
//! ```
//!
//! In goes all that has arrived and was not consumed yet; out come arguments that borrow from
//! it. The order of calls:
//!
//! ```text
//! while let Some(request) = decoder.decode(&input)? {
//!     run(decoder.args(&input));          // none for an empty command: nothing to run
//!     input.advance(request.consumed);    // only now
//! }
//! input.reserve(decoder.needed());        // then read more
//! ```
//!
//! A command that is not complete keeps its progress, so the next call goes on where the bytes
//! ended; so between two calls `input` may only grow at its end.
//!
//! Refused is what Redis 7 refuses, in its words. Also refused, since the outcome must not
//! depend on how the bytes were cut and no argument may be read as a command: a bulk string
//! without CR LF behind it, a CR without LF, and any line beyond `inline_len_max` (which Redis
//! takes if its end arrives in the same read). A zero byte is a byte like any other.

use crate::{ProtocolError, inline::split_words, number::parse_integer, room};
use memchr::memchr;

/// Before it has authenticated a client may send this many arguments …
const UNAUTHENTICATED_ARGS_MAX: usize = 10;
/// … of this many bytes, as in Redis.
const UNAUTHENTICATED_BULK_LEN_MAX: usize = 16 << 10;
/// Memory that a decoder keeps between commands, in elements.
const KEPT_MAX: usize = 1024;

/// How large a command may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one argument.
    pub bulk_len_max: usize,
    /// Arguments of one command, its name included.
    pub args_max: usize,
    /// Bytes of an inline command, and of the line of a count or length.
    pub inline_len_max: usize,
    /// Bytes of one command in all, as sent; at most `u32::MAX`.
    pub frame_len_max: usize,
    /// Whether the client has shown who it is. Until then it gets 10 arguments of 16 KiB,
    /// whatever the other limits say.
    pub authenticated: bool,
}

impl Default for Limits {
    /// 512 MiB an argument, 1 Mi arguments, 64 KiB a line, 1 GiB a command, authenticated.
    fn default() -> Self {
        Limits {
            bulk_len_max: 512 << 20,
            args_max: 1 << 20,
            inline_len_max: 64 << 10,
            frame_len_max: 1 << 30,
            authenticated: true,
        }
    }
}

/// A complete command; its arguments are in the decoder until the next `decode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes at the front of the input that it took; the caller drops them afterwards.
    pub consumed: usize,
    /// How many arguments it has, its name included. None: an empty command (a blank line,
    /// `*0`, `*-1`), which is dropped without a reply.
    pub arg_count: usize,
}

/// An argument: a range of the input, or of the decoder's own bytes for an inline command.
/// Four bytes each, since a million arguments are allowed and `frame_len_max` fits.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Span {
            start: start as u32,
            end: end as u32,
        }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Decodes the commands of one connection.
#[derive(Debug)]
pub struct RequestDecoder {
    limits: Limits,
    /// The next byte to look at; all before it is understood.
    at: usize,
    /// Arguments of the current command that are still to come.
    args_left: usize,
    /// The current argument, once its length is known and until its bytes are all there.
    bulk: Option<(usize, usize)>,
    /// The arguments that are complete.
    spans: Vec<Span>,
    /// The bytes of an inline command, unescaped; its spans point into them.
    inline: Vec<u8>,
    is_inline: bool,
    /// A command was returned; the next call begins anew.
    done: bool,
    /// What was wrong. It stays wrong: what follows may be an argument's bytes.
    failed: Option<ProtocolError>,
    /// At least this many bytes are missing.
    missing: usize,
    /// The length of the input when that was found.
    seen: usize,
}

impl RequestDecoder {
    /// A decoder for a new connection.
    pub fn new(limits: Limits) -> Self {
        let mut decoder = RequestDecoder {
            limits: Limits::default(),
            at: 0,
            args_left: 0,
            bulk: None,
            spans: Vec::new(),
            inline: Vec::new(),
            is_inline: false,
            done: false,
            failed: None,
            missing: 1,
            seen: 0,
        };
        decoder.set_limits(limits);
        decoder
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the limits, as after `AUTH`. They hold for what is decoded from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        // What keeps every position within a span.
        let limits = &mut self.limits;
        limits.frame_len_max = limits.frame_len_max.min(u32::MAX as usize);
        limits.inline_len_max = limits.inline_len_max.min(limits.frame_len_max);
    }

    /// Decodes the command at the front of `input`; `None` if it is not complete yet. `input`
    /// begins where the last command ended, and holds all that was there at the last call.
    ///
    /// # Errors
    /// What Redis refuses, in its words. The connection must be closed: every later call
    /// returns the same error.
    pub fn decode(&mut self, input: &[u8]) -> Result<Option<Request>, ProtocolError> {
        if self.done {
            self.begin();
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance(input)
            .inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn advance(&mut self, input: &[u8]) -> Result<Option<Request>, ProtocolError> {
        if self.args_left == 0 {
            match input.first() {
                None => return Ok(self.wait(input, 1)),
                Some(b'*') => match self.count(input)? {
                    None => return Ok(self.wait(input, 1)),
                    Some(0) => return Ok(Some(self.complete())),
                    Some(count) => self.args_left = count,
                },
                Some(_) => {
                    return Ok(match self.inline(input)? {
                        false => self.wait(input, 1),
                        true => Some(self.complete()),
                    });
                }
            }
        }
        while self.args_left > 0 {
            let (start, end) = match self.bulk {
                Some(bulk) => bulk,
                None => match self.bulk_header(input)? {
                    Some(bulk) => bulk,
                    None => return Ok(self.wait(input, 1)),
                },
            };
            match input.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::MissingBulkEnd),
                None => {
                    self.bulk = Some((start, end));
                    return Ok(self.wait(input, (end + 2).saturating_sub(input.len())));
                }
            }
            self.spans.push(Span::new(start, end));
            self.bulk = None;
            self.at = end + 2;
            self.args_left -= 1;
        }
        Ok(Some(self.complete()))
    }

    /// The arguments of the command that `decode` returned last; `input` must be what it was
    /// given.
    pub fn args<'a>(
        &'a self,
        input: &'a [u8],
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + 'a {
        let source = self.source(input);
        let spans = if self.done { &self.spans[..] } else { &[] };
        spans.iter().map(move |span| span.of(source))
    }

    /// As [`args`](Self::args), in a list that reuses the memory of `spare`, which
    /// [`recycle`] gives back.
    pub fn args_in<'a>(&'a self, input: &'a [u8], spare: Vec<&'static [u8]>) -> Vec<&'a [u8]> {
        let mut args: Vec<&'a [u8]> = spare;
        args.clear();
        args.extend(self.args(input));
        args
    }

    /// After `decode` returned `None`: how many bytes to make room for before reading on. At
    /// least one, and never more than are missing for sure. It grows only as fast as the
    /// client really sends, so that announcing 512 MiB reserves 64 KiB at first.
    pub fn needed(&self) -> usize {
        room(self.missing, self.seen)
    }

    /// Bytes that it holds beside the input: where the arguments of the command at hand are.
    pub fn held_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.inline.capacity()
    }

    /// After a command with very many arguments was done: gives back what it took to hold them.
    pub fn trim(&mut self) {
        if self.done && self.held_bytes() > KEPT_MAX * size_of::<Span>() {
            self.begin();
            self.inline = Vec::new();
        }
    }

    fn source<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.is_inline { &self.inline } else { input }
    }

    fn begin(&mut self) {
        self.done = false;
        self.at = 0;
        self.is_inline = false;
        self.spans.clear();
        if self.spans.capacity() > KEPT_MAX {
            self.spans.shrink_to(KEPT_MAX);
        }
    }

    fn complete(&mut self) -> Request {
        self.done = true;
        Request {
            consumed: self.at,
            arg_count: self.spans.len(),
        }
    }

    fn wait(&mut self, input: &[u8], missing: usize) -> Option<Request> {
        self.missing = missing;
        self.seen = input.len();
        None
    }

    /// Reads `*count\r\n` at the front; a negative count is an empty command.
    fn count(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let line = self.number_line(
            input,
            ProtocolError::TooBigMultibulkCount,
            ProtocolError::InvalidMultibulkLength,
        )?;
        let Some((count, next)) = line else {
            return Ok(None);
        };
        let count = usize::try_from(count).unwrap_or(0);
        if count > self.limits.args_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if count > UNAUTHENTICATED_ARGS_MAX && !self.limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.at = next;
        Ok(Some(count))
    }

    /// Reads `$length\r\n`; returns where the argument begins and ends.
    #[inline]
    fn bulk_header(&mut self, input: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
        }
        let line = self.number_line(
            input,
            ProtocolError::TooBigBulkCount,
            ProtocolError::InvalidBulkLength,
        )?;
        let Some((len, start)) = line else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(|_| ProtocolError::InvalidBulkLength)?;
        if len > self.limits.bulk_len_max {
            return Err(ProtocolError::InvalidBulkLength);
        }
        if len > UNAUTHENTICATED_BULK_LEN_MAX && !self.limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        // `start` lies within the input, and the frame's limit bounds the sum from here on.
        let end = start.saturating_add(len);
        let limit = self.limits.frame_len_max;
        if end.saturating_add(2) > limit {
            return Err(ProtocolError::TooBigFrame { limit });
        }
        self.at = start;
        Ok(Some((start, end)))
    }

    /// Reads the number between the type byte at `self.at` and CR LF; returns it with the
    /// place behind it.
    #[inline]
    fn number_line(
        &self,
        input: &[u8],
        too_long: ProtocolError,
        invalid: ProtocolError,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        // What nearly every line is: up to nine digits, all there.
        let mut value = 0i64;
        let mut digits = 0;
        let line = input.get(self.at + 1..).unwrap_or_default();
        for byte in line.iter().take(10) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value * 10 + i64::from(digit);
            digits += 1;
        }
        let canonical = digits == 1 || (digits < 10 && line.first() != Some(&b'0'));
        if digits > 0 && canonical && line.get(digits..digits + 2) == Some(b"\r\n") {
            return Ok(Some((value, self.at + digits + 3)));
        }
        self.number_line_with_care(input, too_long, invalid)
    }

    #[cold]
    fn number_line_with_care(
        &self,
        input: &[u8],
        too_long: ProtocolError,
        invalid: ProtocolError,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        let line = input.get(self.at..).unwrap_or_default();
        let Some(end) = line_end(b'\r', line, self.limits.inline_len_max, too_long)? else {
            return Ok(None);
        };
        match line.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => match line.get(1..end).and_then(parse_integer) {
                Some(number) => Ok(Some((number, self.at + end + 2))),
                None => Err(invalid),
            },
            Some(_) => Err(invalid),
        }
    }

    /// Reads an inline command; false if its line has not ended.
    #[cold]
    fn inline(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let too_long = ProtocolError::TooBigInline;
        let Some(end) = line_end(b'\n', input, self.limits.inline_len_max, too_long)? else {
            return Ok(false);
        };
        let line = &input[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.is_inline = true;
        self.inline.clear();
        self.inline.shrink_to(KEPT_MAX);
        let spans = &mut self.spans;
        split_words(line, &mut self.inline, |start, end| {
            spans.push(Span::new(start, end));
        })?;
        self.at = end + 1;
        Ok(true)
    }
}

/// Where the first `mark` is in `bytes`; an error once it is sure to lie beyond `limit`. Which
/// of these it is does not depend on how much has arrived.
fn line_end(
    mark: u8,
    bytes: &[u8],
    limit: usize,
    too_long: ProtocolError,
) -> Result<Option<usize>, ProtocolError> {
    let within = bytes.get(..=limit).unwrap_or(bytes);
    match memchr(mark, within) {
        Some(end) => Ok(Some(end)),
        None if bytes.len() > limit => Err(too_long),
        None => Ok(None),
    }
}

/// Empties a list of arguments and gives its memory back, for
/// [`RequestDecoder::args_in`].
pub fn recycle(mut args: Vec<&[u8]>) -> Vec<&'static [u8]> {
    args.clear();
    // Collecting an emptied vector into one of the same layout keeps its allocation.
    args.into_iter().map(|_| &[][..]).collect()
}
