//! Reading: what is committed, and an overlay with what is below it.

use super::Tip;
use bytes::Bytes;
use commands::{
    Passed, View, ViewError,
    view::{FIELD_CURSORS, Limit},
    work::LOOK_UP,
};
use model::{
    mutation::{Header, KeyKind},
    work::of_value,
};
use storage::store::{self, ROW_WORK, Rows, ShardStore, StoreError, cursor_of, field_cursor_of};

/// Work of looking at one key or field in flight that may not be shown.
const LOOK: u64 = ROW_WORK / 8;

const _: () = assert!(FIELD_CURSORS == 1 << 32, "as the store has them");

fn passed(passed: store::Passed) -> Passed {
    let store::Passed { next, work } = passed;
    Passed { next, work }
}

fn view_error(error: StoreError) -> ViewError {
    ViewError::new(error.to_string())
}

/// Reads what is committed.
pub(crate) struct Committed<'a, R: Rows>(pub(crate) &'a ShardStore<R>);

impl<R: Rows> View for Committed<'_, R> {
    fn header(&self, key: &[u8]) -> Result<Option<Header>, ViewError> {
        self.0.header(key).map_err(view_error)
    }

    fn string(&self, key: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
        let found = self.0.string(key).map_err(view_error)?;
        Ok(found.map(|(header, value)| (header, value.unwrap_or_default())))
    }

    fn field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.0.field(key, header, field).map_err(view_error)
    }

    fn has_field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<bool, ViewError> {
        self.0.has_field(key, header, field).map_err(view_error)
    }

    fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        Limit { count, work }: Limit,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, ViewError> {
        let gone = self.0.fields(key, header, cursor, (count, work), visit);
        gone.map(passed).map_err(view_error)
    }

    fn scan(
        &self,
        cursor: u64,
        Limit { count, work }: Limit,
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, ViewError> {
        let gone = self.0.scan(cursor, (count, work), visit);
        gone.map(passed).map_err(view_error)
    }

    fn key_count(&self) -> Result<(u64, u64), ViewError> {
        Ok((self.0.key_count(), 0))
    }
}

/// Reads an overlay and what is below it: the tip over the store, what a transaction has done so
/// far over the tip.
pub(crate) struct Over<'a, V: View> {
    pub(crate) tip: &'a Tip,
    pub(crate) below: V,
}

/// The tip of a shard.
pub(crate) fn at_tip<'a, R: Rows>(
    tip: &'a Tip,
    store: &'a ShardStore<R>,
) -> Over<'a, Committed<'a, R>> {
    let below = Committed(store);
    Over { tip, below }
}

impl<V: View> Over<'_, V> {
    /// What is below, if it counts at all.
    fn below(&self) -> Option<&V> {
        self.tip.cleared.is_none().then_some(&self.below)
    }

    fn place(&self, key: &[u8], field: &[u8]) -> Place<'_, V> {
        let pending = self.tip.keys.get(key);
        if let Some(own) = pending.and_then(|pending| pending.fields.get(field)) {
            return Place::Here(own.as_ref());
        }
        match self.below() {
            Some(below) if pending.is_none_or(|p| !p.hides_store) => Place::Below(below),
            _ => Place::Here(None),
        }
    }
}

/// Where what is known of a field stands.
enum Place<'a, V> {
    Here(Option<&'a Bytes>),
    Below(&'a V),
}

impl<V: View> View for Over<'_, V> {
    fn header(&self, key: &[u8]) -> Result<Option<Header>, ViewError> {
        if let Some(pending) = self.tip.keys.get(key) {
            return Ok(pending.header);
        }
        self.below().map_or(Ok(None), |below| below.header(key))
    }

    fn string(&self, key: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
        let Some(pending) = self.tip.keys.get(key) else {
            return self.below().map_or(Ok(None), |below| below.string(key));
        };
        let Some(header) = pending.header else {
            return Ok(None);
        };
        if let Some(value) = &pending.string {
            return Ok(Some((header, value.clone())));
        }
        if header.kind == KeyKind::String && !pending.hides_store {
            let found = self.below.string(key)?;
            let value = found.map_or_else(Bytes::new, |(_, value)| value);
            return Ok(Some((header, value)));
        }
        Ok(Some((header, Bytes::new())))
    }

    fn field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self.place(key, field) {
            Place::Here(value) => Ok(value.cloned()),
            Place::Below(below) => below.field(key, header, field),
        }
    }

    fn has_field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<bool, ViewError> {
        match self.place(key, field) {
            Place::Here(value) => Ok(value.is_some()),
            Place::Below(below) => below.has_field(key, header, field),
        }
    }

    fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, ViewError> {
        let pending = self.tip.keys.get(key);
        let mut passed = Passed { next: 0, work: 0 };
        if pending.is_none_or(|p| !p.hides_store)
            && let Some(below) = self.below()
        {
            passed = below.fields(key, header, cursor, limit, &mut |field, value| {
                if pending.is_none_or(|p| p.fields.get(field).is_none()) {
                    visit(field, value);
                }
            })?;
        }
        for (field, value) in pending.iter().flat_map(|p| p.fields.iter()) {
            passed.work += LOOK;
            let at = field_cursor_of(field);
            if let Some(value) = value
                && at >= cursor
                && (passed.next == 0 || at < passed.next)
            {
                passed.work += field.len() as u64 + of_value(2 * value.len());
                visit(field, value);
            }
        }
        Ok(passed)
    }

    fn scan(
        &self,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, ViewError> {
        let mut passed = Passed { next: 0, work: 0 };
        if let Some(below) = self.below() {
            passed = below.scan(cursor, limit, &mut |key, header| {
                if !self.tip.keys.contains_key(key) {
                    visit(key, header);
                }
            })?;
        }
        let next = passed.next;
        passed.work += LOOK * self.tip.keys.len() as u64;
        let mut listed: Vec<(&Bytes, &Header)> = Vec::new();
        for (key, pending) in &self.tip.keys {
            let at = cursor_of(key);
            if at >= cursor
                && (next == 0 || at < next)
                && let Some(header) = &pending.header
                && header.kind != KeyKind::Tombstone
            {
                listed.push((key, header));
            }
        }
        listed.sort_unstable_by_key(|(key, _)| *key);
        listed
            .into_iter()
            .for_each(|(key, header)| visit(key, header));
        Ok(passed)
    }

    fn key_count(&self) -> Result<(u64, u64), ViewError> {
        let (mut count, mut work) = match self.below() {
            Some(below) => below.key_count()?,
            None => (0, 0),
        };
        let is_there =
            |header: Option<Header>| header.is_some_and(|header| header.kind != KeyKind::Tombstone);
        work += LOOK_UP * self.tip.keys.len() as u64;
        for (key, pending) in &self.tip.keys {
            let before = match self.below() {
                Some(below) => is_there(below.header(key)?),
                None => false,
            };
            match (before, is_there(pending.header)) {
                (false, true) => count += 1,
                (true, false) => count = count.saturating_sub(1),
                _ => {}
            }
        }
        Ok((count, work))
    }
}
