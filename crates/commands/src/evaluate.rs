//! The frame of every evaluation: limits, expiry, and what becomes of a refusal.

use crate::{
    error::Refusal,
    glob,
    spec::{Flags, Spec},
    view::{Context, Limit, Passed, View, ViewError},
    work::{LOOK_UP, ROW, STEP, WORK_MAX, WRITE, Work},
};
use bytes::{Bytes, BytesMut};
use model::{
    Mutation, Stamp,
    entry::WRITE_BYTES_MAX,
    mutation::{Header, KeyKind},
    work::of_value,
};
use resp::reply::Encoder;
use std::{borrow::Cow, collections::BTreeSet};

/// Keys that one command may name at one shard: each takes two ops at most (a deletion and a
/// write), and a mutation has room for 65,535.
pub const KEYS_MAX: usize = u16::MAX as usize / 2;

/// Work of one step of a scan: what is left of it comes with the next.
const SCAN_WORK_MAX: u64 = WORK_MAX / 8;

/// Evaluates a command whose name is `args[0]`: appends one reply to `reply` and its ops to
/// `mutation`.
///
/// An error is the view's: then `reply` is as it was, and the mutation is to be thrown away.
pub fn evaluate(
    spec: &Spec,
    args: &[&[u8]],
    view: &dyn View,
    cx: &Context,
    work: &Work,
    mutation: &mut Mutation,
    reply: &mut BytesMut,
) -> Result<(), ViewError> {
    let start = reply.len();
    let mut evaluation = Evaluation {
        args,
        spec,
        view,
        cx: *cx,
        work,
        mutation,
        reply,
        gone: BTreeSet::new(),
    };
    match evaluation.run() {
        Ok(()) => Ok(()),
        Err(refusal) => {
            reply.truncate(start);
            if let Refusal::View(error) = refusal {
                return Err(error);
            }
            Encoder::new(cx.version, reply).error(refusal.to_string());
            Ok(())
        }
    }
}

/// Called with the reply, a field and its value.
type VisitField<'a> = &'a mut dyn FnMut(&mut Encoder<'_>, &[u8], &[u8]);

/// One command being evaluated.
pub(crate) struct Evaluation<'a> {
    pub(crate) args: &'a [&'a [u8]],
    pub(crate) spec: &'a Spec,
    view: &'a dyn View,
    pub(crate) cx: Context,
    work: &'a Work,
    pub(crate) mutation: &'a mut Mutation,
    reply: &'a mut BytesMut,
    /// Keys that this command has deleted already, which the view still shows.
    pub(crate) gone: BTreeSet<Cow<'a, [u8]>>,
}

/// What an evaluation knows of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Its header, if it is there.
    pub(crate) live: Option<Header>,
    /// What a header written from now on carries.
    deleted: Stamp,
}

impl Found {
    /// When it expires; 0 for never, and if it is not there.
    pub(crate) fn expires_ms(&self) -> u64 {
        self.live.map_or(0, |header| header.expires_ms)
    }

    /// How many fields it has; 0 if it is not there.
    pub(crate) fn fields(&self) -> u64 {
        self.live.map_or(0, |header| header.fields)
    }

    /// The header to start from if the key is created.
    pub(crate) fn fresh(&self, kind: KeyKind) -> Header {
        Header {
            deleted: self.deleted,
            ..Header::new(kind)
        }
    }

    fn expect(self, kind: KeyKind) -> Result<Found, Refusal> {
        match self.live {
            Some(header) if header.kind != kind => Err(Refusal::WrongType),
            _ => Ok(self),
        }
    }
}

impl<'a> Evaluation<'a> {
    fn run(&mut self) -> Result<(), Refusal> {
        let spec = self.spec;
        spec.check_arity(self.args)?;
        let keys = spec.key_positions(self.args.len()).count();
        if keys > KEYS_MAX {
            return Err(Refusal::TooManyKeys {
                name: spec.name,
                keys,
                keys_max: KEYS_MAX,
            });
        }
        if spec.is_write() {
            self.spend(keys as u64 * WRITE)?;
            self.check_bytes(self.args.iter().map(|arg| arg.len()).sum())?;
        }
        let run = spec.run.ok_or(Refusal::NotEvaluated(spec.name))?;
        run(self)
    }

    /// Takes in account what is about to be done, or refuses it.
    pub(crate) fn spend(&self, work: u64) -> Result<(), Refusal> {
        let name = self.spec.name;
        let work_max = self.work.max();
        let spent = self.work.spend(work);
        spent.map_err(|_| Refusal::TooMuchWork { name, work_max })
    }

    /// Refuses what would not fit into one entry of the log, and is the work of writing it.
    pub(crate) fn check_bytes(&self, bytes: usize) -> Result<(), Refusal> {
        let (name, bytes_max) = (self.spec.name, WRITE_BYTES_MAX);
        let refusal = Refusal::TooManyBytes {
            name,
            bytes,
            bytes_max,
        };
        self.bound(bytes, refusal)
    }

    /// The same of a value that a command makes of what is there: to split the command would not
    /// help.
    pub(crate) fn check_value(&self, bytes: usize) -> Result<(), Refusal> {
        let (name, bytes_max) = (self.spec.name, WRITE_BYTES_MAX);
        let refusal = Refusal::ValueTooLong {
            name,
            bytes,
            bytes_max,
        };
        self.bound(bytes, refusal)
    }

    fn bound(&self, bytes: usize, refusal: Refusal) -> Result<(), Refusal> {
        if bytes > WRITE_BYTES_MAX {
            return Err(refusal);
        }
        self.spend(of_value(bytes))
    }

    /// Refuses so many fields of a key that their rows, each of which names the key, would not be
    /// of a size for one command. To be asked before anything is written.
    pub(crate) fn check_fields(&self, key: &[u8], fields: usize) -> Result<(), Refusal> {
        self.spend((fields as u64).saturating_mul(WRITE))?;
        self.check_bytes(key.len().saturating_mul(fields))
    }

    /// Where the reply is written.
    pub(crate) fn reply(&mut self) -> Encoder<'_> {
        Encoder::new(self.cx.version, self.reply)
    }

    /// How far the reply is written, to come back to with [`Evaluation::rewind_reply`].
    pub(crate) fn reply_mark(&self) -> usize {
        self.reply.len()
    }

    /// Takes back what was written of the reply since `mark`.
    pub(crate) fn rewind_reply(&mut self, mark: usize) {
        self.reply.truncate(mark);
    }

    /// Every field of a hash that is there, and its value, each once, with an encoder for the
    /// reply.
    pub(crate) fn each_field(
        &mut self,
        key: &[u8],
        header: &Header,
        visit: VisitField<'_>,
    ) -> Result<(), Refusal> {
        let work = self.work.left();
        let mut passed = Passed {
            next: 0,
            work: header.fields.saturating_mul(ROW),
        };
        if passed.work <= work {
            let mut reply = Encoder::new(self.cx.version, self.reply);
            let mut visit = |field: &[u8], value: &[u8]| visit(&mut reply, field, value);
            let count = usize::MAX;
            let limit = Limit { count, work };
            passed = self.view.fields(key, header, 0, limit, &mut visit)?;
        }
        let rest = if passed.next > 0 { u64::MAX } else { 0 };
        self.spend(passed.work.max(rest))
    }

    /// Some fields of a hash from `cursor` on; where to go on. See [`View::fields`].
    pub(crate) fn some_fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<u64, Refusal> {
        let work = self.work.left().min(SCAN_WORK_MAX);
        let limit = Limit { count, work };
        let passed = self.view.fields(key, header, cursor, limit, visit)?;
        self.spend(passed.work.saturating_add(LOOK_UP))?;
        Ok(passed.next)
    }

    /// Visits the keys from `cursor` on that are there, and deletes those whose time is over;
    /// where to go on. See [`View::scan`].
    pub(crate) fn scan_live(
        &mut self,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(&[u8], KeyKind),
    ) -> Result<u64, Refusal> {
        let now_ms = self.cx.now_ms;
        let (mutation, gone) = (&mut *self.mutation, &mut self.gone);
        let spent = self.work;
        let work = spent.left().min(SCAN_WORK_MAX);
        let limit = Limit { count, work };
        let passed = self.view.scan(cursor, limit, &mut |key, header| {
            if header.is_live(now_ms) {
                visit(key, header.kind);
            } else if header.kind != KeyKind::Tombstone
                // What doesn't fit is met by the next scan.
                && mutation.ops() < u16::MAX
                // RANDOMKEY comes by the same keys more than once.
                && gone.insert(Cow::Owned(key.to_vec()))
            {
                mutation.delete(key, header);
                spent.expired();
            }
        })?;
        self.spend(passed.work.saturating_add(LOOK_UP))?;
        Ok(passed.next)
    }

    /// How many keys there are, expired ones included.
    pub(crate) fn key_count(&self) -> Result<u64, Refusal> {
        let (keys, work) = self.view.key_count()?;
        self.spend(work.saturating_add(LOOK_UP))?;
        Ok(keys)
    }

    /// Whether `pattern` describes `text`.
    pub(crate) fn matches(&self, pattern: &[u8], text: &[u8]) -> Result<bool, Refusal> {
        let mut steps = self.work.left() / STEP;
        let before = steps;
        let found = glob::matches_within(pattern, text, &mut steps);
        self.spend((before - steps) * STEP)?;
        found.map_or_else(|| self.spend(u64::MAX).map(|()| false), Ok)
    }

    /// Turns a stored header into what the command may know, and commits an expiry.
    fn judge(&mut self, key: &'a [u8], stored: Option<Header>) -> Found {
        let Some(header) = stored else {
            return Found {
                live: None,
                deleted: Stamp::ZERO,
            };
        };
        let deleted = header.deleted;
        if !header.is_live(self.cx.now_ms) {
            if header.kind != KeyKind::Tombstone && self.gone.insert(Cow::Borrowed(key)) {
                self.mutation.delete(key, &header);
                self.work.expired();
            }
        } else if !self.gone.contains(key) {
            return Found {
                live: Some(header),
                deleted,
            };
        }
        Found {
            live: None,
            deleted,
        }
    }

    /// A key of any kind.
    pub(crate) fn key(&mut self, key: &'a [u8]) -> Result<Found, Refusal> {
        self.spend(LOOK_UP)?;
        let stored = self.view.header(key)?;
        let found = self.judge(key, stored);
        self.note_read(&found);
        Ok(found)
    }

    /// As in Redis, a hit or a miss is a key that a reading command looked up.
    fn note_read(&self, found: &Found) {
        if self.spec.flags.has(Flags::READONLY) {
            self.work.looked_up(found.live.is_some());
        }
    }

    /// A key that must be a hash, if it is there.
    pub(crate) fn hash(&mut self, key: &'a [u8]) -> Result<Found, Refusal> {
        self.key(key)?.expect(KeyKind::Hash)
    }

    /// A key that must be a string, if it is there, and its value.
    pub(crate) fn string(&mut self, key: &'a [u8]) -> Result<(Found, Option<Bytes>), Refusal> {
        self.spend(LOOK_UP)?;
        let (header, value) = self.view.string(key)?.unzip();
        self.spend(value.as_ref().map_or(0, |value| of_value(value.len())))?;
        let found = self.judge(key, header);
        self.note_read(&found);
        let found = found.expect(KeyKind::String)?;
        Ok((found, value.filter(|_| found.live.is_some())))
    }

    /// The value of a string as it is stored, whether this command has deleted it or not.
    pub(crate) fn stored_string(&self, key: &[u8]) -> Result<Option<Bytes>, Refusal> {
        self.spend(LOOK_UP)?;
        let value = self.view.string(key)?.map(|(_, value)| value);
        self.spend(value.as_ref().map_or(0, |value| of_value(value.len())))?;
        Ok(value)
    }

    /// The value of a field of a hash; None if either is not there.
    pub(crate) fn field(
        &self,
        key: &[u8],
        hash: &Found,
        field: &[u8],
    ) -> Result<Option<Bytes>, Refusal> {
        match &hash.live {
            Some(header) => {
                self.spend(LOOK_UP)?;
                let value = self.view.field(key, header, field)?;
                self.spend(value.as_ref().map_or(0, |value| of_value(value.len())))?;
                Ok(value)
            }
            None => Ok(None),
        }
    }

    /// Whether a hash is there and has a field.
    pub(crate) fn has_field(
        &self,
        key: &[u8],
        hash: &Found,
        field: &[u8],
    ) -> Result<bool, Refusal> {
        match &hash.live {
            Some(header) => {
                self.spend(LOOK_UP)?;
                Ok(self.view.has_field(key, header, field)?)
            }
            None => Ok(false),
        }
    }

    /// Deletes the key if it is there; what follows in this command sees it gone.
    pub(crate) fn delete(&mut self, key: &'a [u8], found: &Found) -> bool {
        let Some(header) = &found.live else {
            return false;
        };
        self.mutation.delete(key, header);
        if self.args.len() > 2 {
            self.gone.insert(Cow::Borrowed(key));
        }
        true
    }

    /// Makes the key a string, whatever it was. A key is written at most once a command.
    pub(crate) fn put_string(
        &mut self,
        key: &'a [u8],
        found: &Found,
        expires_ms: u64,
        value: &[u8],
    ) {
        let mut created = found.live.is_none();
        if found
            .live
            .is_some_and(|header| header.kind != KeyKind::String)
        {
            created = self.delete(key, found);
        } else if expires_ms == 0
            && let Some(expiring) = found.live.filter(|h| h.expires_ms != 0)
        {
            // Whoever applies the string does not look up what it replaces: said by itself, that
            // the key expires no more leaves nothing behind in the index of expiry.
            let lasting = Header {
                expires_ms: 0,
                ..expiring
            };
            self.mutation.set_header(key, &lasting);
        }
        let mut header = found.fresh(KeyKind::String);
        header.expires_ms = expires_ms;
        self.mutation.put_string(key, created, &header, value);
    }
}
