//! What must hold for any bytes that a client, a peer or a disk may hold. Each module has one
//! function `check`, which takes the bytes and panics if something does not hold.
//!
//! The fuzzers in `fuzz/` call these functions with bytes that they make up; the tests here
//! call the same functions with the corpus in `fuzz/corpus`. So an input that once failed
//! guards against its return without a fuzzer, and nothing is checked that only one can run.
//!
//! | module | bytes of |
//! |---|---|
//! | [`resp_decoder`] | a client's connection, and a server's, in whatever pieces they arrive |
//! | [`command_parser`] | a client's connection, its commands carried out |
//! | [`log_reader`] | the files of a log |
//! | [`peer_decoder`] | messages of peers, and records and rows that they and the disk hold |
//!
//! A checksum would keep a fuzzer from everything behind it. So where the bytes have one the
//! input says (see each module) whether it is put right before they are decoded.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "to panic is how a check fails"
)]

pub mod command_parser;
mod input;
pub mod log_reader;
pub mod peer_decoder;
pub mod resp_decoder;

/// A function that takes any bytes, and panics if something does not hold.
pub type Check = fn(&[u8]);

/// Every fuzz target, by the name of its corpus.
pub const TARGETS: [(&str, Check); 4] = [
    ("resp_decoder", resp_decoder::check),
    ("command_parser", command_parser::check),
    ("log_reader", log_reader::check),
    ("peer_decoder", peer_decoder::check),
];
