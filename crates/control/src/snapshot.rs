//! The catalog's bytes: what the group compacts to, and what a node that is not a voter gets.
//!
//! # Bytes
//! ```text
//! 0  version  u8   5
//! 1  catalog  postcard of model::Catalog
//! ```
//! Version 3 had no feature level, version 4 did not say when a replica was added. A version that
//! once was released stays readable (`testdata/catalog-v*.bin`).

use crate::check::{self, Unsound};
use model::Catalog;
use serde::Deserialize;

const VERSION: u8 = 5;

/// Bytes that are not a catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableCatalog {
    /// Written by a newer version.
    #[error(
        "the catalog has format {version}, and this version knows {VERSION}: upgrade this node"
    )]
    Version {
        /// The format's version.
        version: u8,
    },
    /// Not a catalog.
    #[error("the catalog can't be read: {why}")]
    Malformed {
        /// What the codec says.
        why: String,
    },
    /// A catalog that contradicts itself.
    #[error("the catalog is not sound: {0}")]
    Unsound(#[from] Unsound),
}

impl UnreadableCatalog {
    /// Whether a newer version wrote it.
    pub fn is_newer(&self) -> bool {
        matches!(self, UnreadableCatalog::Version { version } if *version > VERSION)
    }
}

/// The catalog's bytes.
pub fn encode(catalog: &Catalog) -> Result<Vec<u8>, UnreadableCatalog> {
    postcard::to_extend(catalog, vec![VERSION]).map_err(malformed)
}

/// Reads a catalog that is all of `bytes`, and checks it.
pub fn decode(bytes: &[u8]) -> Result<Catalog, UnreadableCatalog> {
    let why = |why: &str| UnreadableCatalog::Malformed {
        why: why.to_owned(),
    };
    let (version, rest) = bytes.split_first().ok_or_else(|| why("it is empty"))?;
    let catalog = match *version {
        VERSION => read_all(rest)?,
        version => return Err(UnreadableCatalog::Version { version }),
    };
    check::catalog(&catalog)?;
    Ok(catalog)
}

fn read_all<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, UnreadableCatalog> {
    match postcard::take_from_bytes(bytes).map_err(malformed)? {
        (value, []) => Ok(value),
        (_, rest) => Err(UnreadableCatalog::Malformed {
            why: format!("{} bytes are left over", rest.len()),
        }),
    }
}

fn malformed(e: postcard::Error) -> UnreadableCatalog {
    UnreadableCatalog::Malformed { why: e.to_string() }
}
