//! Moving data between Redis, or Valkey, and Quire. Pure: no sockets and no clock; files come
//! as [`std::io::Read`]. Those are at the edge, in `quire import` and `quire export`.
//!
//! ```text
//!  RDB file ───▶ rdb::Reader ──────┐                       ┌─▶ writer::Writer ─▶ Quire
//!                                  ├─▶ key, value, time ───┤
//!  SCAN, DUMP ─▶ live::Facts ──────┘                       └─▶ script ─▶ redis-cli --pipe
//!                                        report::Report
//! ```
//!
//! | module | has |
//! |---|---|
//! | [`rdb`] | a snapshot, read as it comes |
//! | [`fields`] | hashes of fields with times of their own |
//! | [`live`] | what a running server answers about a key |
//! | [`writer`] | requests to Quire, sent again as long as it makes sense |
//! | [`script`] | an export |
//! | [`report`] | what became of the keys |
//! | [`address`] | where to import from |
//!
//! What always holds:
//! - A key is moved whole, with the moment when it expires (not how long it has), or not at all.
//!   Only a hash beyond [`rdb::PART_FIELDS`] or [`rdb::PART_BYTES`] goes in parts: until the
//!   last is there it has the time [`UNFINISHED_MS`], by which the next import knows that it may
//!   go on with it.
//! - Memory is bounded by the largest single value, whatever the size of the file or database.
//! - No bytes, of a file or a server, make it panic.

pub mod address;
pub mod fields;
pub mod live;
pub mod rdb;
pub mod report;
pub mod script;
pub mod writer;

pub use fields::Expiring;
pub use report::Report;

/// When a hash expires that is imported in parts, while it is not complete: in the year 223,000.
/// A hash that somebody else has with exactly this time would be taken for one.
pub const UNFINISHED_MS: u64 = 6_999_999_999_999_999;
