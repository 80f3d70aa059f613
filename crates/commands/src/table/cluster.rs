//! The map of a Redis Cluster: there is none, and every one of these says so as a Redis outside of
//! a cluster does. Clients ask whether they are at one, and know that answer.

use super::flags::*;
use crate::{
    node_command::NodeCommand,
    spec::{Family::Cluster, Flags, Spec},
};

/// What a subcommand of operators is.
const OPERATORS: Flags = ADMIN.and(STALE);
/// And one that changes the map.
const CHANGES: Flags = OPERATORS.and(NO_ASYNC_LOADING);

const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];

/// They all do the same.
const fn refused(name: &'static str, arity: i32, flags: Flags, since: &'static str) -> Spec {
    let what = "An error: this is no Redis Cluster, any node takes any command";
    Spec::new(name, arity, flags, Cluster)
        .at_node(NodeCommand::Cluster)
        .doc(what, since, "O(1)")
}

#[rustfmt::skip]
pub(super) const SPECS: &[Spec] = &[
    Spec::new("cluster", -2, NONE, Cluster)
        .subcommands(&[
            refused("cluster|addslots", -3, CHANGES, "3.0.0"),
            refused("cluster|addslotsrange", -4, CHANGES, "7.0.0"),
            refused("cluster|bumpepoch", 2, CHANGES, "3.0.0").tips(NONDETERMINISTIC),
            refused("cluster|count-failure-reports", 3, OPERATORS, "3.0.0").tips(NONDETERMINISTIC),
            refused("cluster|countkeysinslot", 3, STALE, "3.0.0"),
            refused("cluster|delslots", -3, CHANGES, "3.0.0"),
            refused("cluster|delslotsrange", -4, CHANGES, "7.0.0"),
            refused("cluster|failover", -2, CHANGES, "3.0.0"),
            refused("cluster|flushslots", 2, CHANGES, "3.0.0"),
            refused("cluster|forget", 3, CHANGES, "3.0.0"),
            refused("cluster|getkeysinslot", 4, STALE, "3.0.0").tips(NONDETERMINISTIC),
            refused("cluster|help", 2, LOADING.and(STALE), "5.0.0"),
            refused("cluster|info", 2, STALE, "3.0.0").tips(NONDETERMINISTIC),
            refused("cluster|keyslot", 3, STALE, "3.0.0"),
            refused("cluster|links", 2, STALE, "7.0.0").tips(NONDETERMINISTIC),
            refused("cluster|meet", -4, CHANGES, "3.0.0"),
            refused("cluster|myid", 2, STALE, "3.0.0"),
            refused("cluster|nodes", 2, STALE, "3.0.0").tips(NONDETERMINISTIC),
            refused("cluster|replicas", 3, OPERATORS, "5.0.0").tips(NONDETERMINISTIC),
            refused("cluster|replicate", 3, CHANGES, "3.0.0"),
            refused("cluster|reset", -2, OPERATORS.and(NOSCRIPT), "3.0.0"),
            refused("cluster|saveconfig", 2, CHANGES, "3.0.0"),
            refused("cluster|set-config-epoch", 3, CHANGES, "3.0.0"),
            refused("cluster|setslot", -4, CHANGES, "3.0.0"),
            refused("cluster|shards", 2, STALE, "7.0.0").tips(NONDETERMINISTIC),
            refused("cluster|slaves", 3, OPERATORS, "3.0.0").tips(NONDETERMINISTIC),
            refused("cluster|slots", 2, STALE, "3.0.0").tips(NONDETERMINISTIC),
        ])
        .doc("A container for cluster commands", "3.0.0", "Depends on subcommand."),
];
