//! Transactions: the node gathers them; `WATCH` is evaluated at the shard, to see what is there.

use super::flags::*;
use crate::{
    node_command::TransactionCommand::{Discard, Exec, Multi, Unwatch},
    spec::{Categories, Family::Transactions, Fanout::OneShard, Spec},
    transaction,
};

#[rustfmt::skip]
pub(super) const SPECS: &[Spec] = &[
    Spec::new("multi", 1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(ALLOW_BUSY), Transactions)
        .in_transaction(Multi)
        .also(Categories::TRANSACTION)
        .doc("Mark the start of a transaction block", "1.2.0", "O(1)"),
    Spec::new("exec", 1, NOSCRIPT.and(LOADING).and(STALE).and(SKIP_SLOWLOG), Transactions)
        .in_transaction(Exec)
        .also(Categories::TRANSACTION)
        .doc("Execute all commands issued after MULTI", "1.2.0", "Depends on commands in the transaction"),
    Spec::new("discard", 1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(ALLOW_BUSY), Transactions)
        .in_transaction(Discard)
        .also(Categories::TRANSACTION)
        .doc("Discard all commands issued after MULTI", "2.0.0", "O(N), when N is the number of queued commands"),
    Spec::new("watch", -2, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(ALLOW_BUSY), Transactions)
        .keys_at(-1, 1, &["RO"])
        .also(Categories::TRANSACTION)
        .runs(OneShard, transaction::watch)
        .takes("key...")
        .doc("Watch the given keys to determine execution of the MULTI/EXEC block", "2.2.0", "O(1) for every key."),
    Spec::new("unwatch", 1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(ALLOW_BUSY), Transactions)
        .in_transaction(Unwatch)
        .also(Categories::TRANSACTION)
        .doc("Forget about all watched keys", "2.2.0", "O(1)"),
];
