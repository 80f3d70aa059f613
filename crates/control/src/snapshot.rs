//! The catalog's bytes: what the group compacts to, and what a node that is not a voter gets.
//!
//! # Bytes
//! ```text
//! 0  version  u8   1
//! 1  catalog  postcard of model::Catalog
//! ```
//! A version that once was released stays readable (`testdata/catalog-v1.bin`).

use crate::check::{self, Unsound};
use model::Catalog;

const VERSION: u8 = 1;

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
    if *version != VERSION {
        return Err(UnreadableCatalog::Version { version: *version });
    }
    let (catalog, rest) = postcard::take_from_bytes(rest).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(why("bytes are left over"));
    }
    check::catalog(&catalog)?;
    Ok(catalog)
}

fn malformed(e: postcard::Error) -> UnreadableCatalog {
    UnreadableCatalog::Malformed { why: e.to_string() }
}
