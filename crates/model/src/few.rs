//! An ordered map for what is mostly few: the fields that one command writes.
//!
//! A `BTreeMap`'s first node has room for eleven, some 800 bytes here, and is far from the
//! processor whenever it is new. Up to [`FEW`] entries are in an ordered vector instead.

use bytes::Bytes;
use std::collections::BTreeMap;

/// Entries of a vector, at most.
const FEW: usize = 8;

/// See the module.
#[derive(Clone, Debug)]
pub enum FewMap<V> {
    /// In order.
    Few(Vec<(Bytes, V)>),
    /// It had more at some time.
    Many(BTreeMap<Bytes, V>),
}

impl<V> Default for FewMap<V> {
    fn default() -> Self {
        FewMap::Few(Vec::new())
    }
}

impl<V> FewMap<V> {
    /// Puts a value in a key's place.
    pub fn insert(&mut self, key: Bytes, value: V) {
        if let FewMap::Few(few) = self {
            match few.binary_search_by(|(k, _)| k.cmp(&key)) {
                Ok(at) => few[at].1 = value,
                Err(at) if few.len() < FEW => few.insert(at, (key, value)),
                Err(_) => {
                    let mut many: BTreeMap<Bytes, V> = std::mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    *self = FewMap::Many(many);
                }
            }
        } else if let FewMap::Many(many) = self {
            many.insert(key, value);
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        match self {
            FewMap::Few(few) => {
                let at = few.binary_search_by(|(k, _)| k[..].cmp(key)).ok()?;
                few.get(at).map(|(_, value)| value)
            }
            FewMap::Many(many) => many.get(key),
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        match self {
            FewMap::Few(few) => {
                let at = few.binary_search_by(|(k, _)| k[..].cmp(key)).ok()?;
                few.get_mut(at).map(|(_, value)| value)
            }
            FewMap::Many(many) => many.get_mut(key),
        }
    }

    /// All of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &V)> {
        let (few, many) = match self {
            FewMap::Few(few) => (Some(few), None),
            FewMap::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(key, value)| (key, value));
        few.chain(many.into_iter().flatten())
    }

    /// The same, values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Bytes, &mut V)> {
        let (few, many) = match self {
            FewMap::Few(few) => (Some(few), None),
            FewMap::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(key, value)| (&*key, value));
        few.chain(many.into_iter().flatten())
    }

    /// Empties it.
    pub fn clear(&mut self) {
        *self = FewMap::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_an_ordered_map(keys in proptest::collection::vec(0u8..20, 0..40)) {
            let (mut few, mut model) = (FewMap::default(), BTreeMap::new());
            for (n, key) in keys.into_iter().enumerate() {
                few.insert(Bytes::copy_from_slice(&[key]), n);
                model.insert(Bytes::copy_from_slice(&[key]), n);
                if let Some(value) = few.get_mut(&[key / 2]) {
                    *value += 1;
                }
                if let Some(value) = model.get_mut(&[key / 2][..]) {
                    *value += 1;
                }
                prop_assert!(few.iter().eq(model.iter()));
            }
            few.iter_mut().for_each(|(_, value)| *value *= 2);
            model.values_mut().for_each(|value| *value *= 2);
            for key in 0..20 {
                prop_assert_eq!(few.get(&[key]), model.get(&[key][..]));
            }
            few.clear();
            prop_assert_eq!(few.iter().count(), 0);
        }
    }
}
