//! What a command reads, and what it is told besides its arguments.

use bytes::Bytes;
use model::mutation::Header;
use resp::Version;

/// Cursors of fields lie below this.
pub const FIELD_CURSORS: u64 = 1 << 32;

/// How far a view goes at most in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it shows; a few more where cursors are shared.
    pub count: usize,
    /// What it passes by, in the units of [`Work`](crate::Work); one row in any case.
    pub work: u64,
}

/// How far a view went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The cursor to go on from; 0 at the end.
    pub next: u64,
    /// What that took, in the units of [`Work`](crate::Work).
    pub work: u64,
}

/// One shard's keys. The node implements it over what is committed (for reads at a replica)
/// or over the tip: committed and in flight. It shows one moment: nothing changes while a
/// command is evaluated.
pub trait View {
    /// The key's header as stored, that of a tombstone or of an expired key included; None if
    /// there is no row.
    fn header(&self, key: &[u8]) -> Result<Option<Header>, ViewError>;

    /// The header and, for a string, its value, in one read. The value of anything else is
    /// empty.
    fn string(&self, key: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError>;

    /// The value of a live field of a hash whose header is `header`.
    fn field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<Option<Bytes>, ViewError>;

    /// Whether a hash whose header is `header` has a live field of this name.
    fn has_field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<bool, ViewError> {
        Ok(self.field(key, header, field)?.is_some())
    }

    /// Live fields and their values, each once, of a hash whose header is `header`, from
    /// `cursor` on: all of them, unless there are more than `count` or passing by them takes
    /// more than `work`. Those that share a cursor are given together. A field that is there
    /// from the first call to the last is given, whatever comes and goes beside it, and a
    /// cursor that was drawn by chance below [`FIELD_CURSORS`] begins at any field.
    fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, ViewError>;

    /// Keys from `cursor` on, expired ones included and tombstones left out: `count`, and those
    /// that share a cursor with the last, unless the end is reached or passing by them takes
    /// more than `work`. Cursors are those of [`model::cursor`].
    fn scan(
        &self,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, ViewError>;

    /// How many keys there are, expired ones included and tombstones left out; and what counting
    /// them took, in the units of [`Work`](crate::Work).
    fn key_count(&self) -> Result<(u64, u64), ViewError>;
}

impl<V: View> View for &V {
    fn header(&self, key: &[u8]) -> Result<Option<Header>, ViewError> {
        (**self).header(key)
    }

    fn string(&self, key: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
        (**self).string(key)
    }

    fn field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<Option<Bytes>, ViewError> {
        (**self).field(key, header, field)
    }

    fn has_field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<bool, ViewError> {
        (**self).has_field(key, header, field)
    }

    fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, ViewError> {
        (**self).fields(key, header, cursor, limit, visit)
    }

    fn scan(
        &self,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, ViewError> {
        (**self).scan(cursor, limit, visit)
    }

    fn key_count(&self) -> Result<(u64, u64), ViewError> {
        (**self).key_count()
    }
}

/// A view that could not be read, damaged data for example. What was evaluated so far is to
/// be thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IOERR {0}")]
pub struct ViewError(String);

impl ViewError {
    /// `what` names the place and tells the user what to do; it becomes part of an error line.
    pub fn new(what: impl Into<String>) -> Self {
        ViewError(what.into())
    }
}

/// What a command is told besides its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Shard time, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Drawn anew for each command: what it leaves to chance follows from it.
    pub random: u64,
    /// The number of the keyspace.
    pub keyspace: u32,
    /// The protocol of the reply.
    pub version: Version,
}
