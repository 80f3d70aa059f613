//! Which commands are an operator's.

use commands::{Fanout, NodeCommand, node_command::ClientCommand};

/// Whether a command is what an operator looks at a node with, or helps it with: for these there
/// is room where there is none for another client.
pub fn is_administration(args: &[&[u8]]) -> bool {
    commands::find(args).is_ok_and(|spec| {
        matches!(
            spec.fanout,
            Fanout::Node(
                NodeCommand::Quire(_)
                    | NodeCommand::Keyspace(_)
                    | NodeCommand::Info
                    | NodeCommand::Config(_)
                    | NodeCommand::Slowlog(_)
                    | NodeCommand::Latency(_)
                    | NodeCommand::Role
                    | NodeCommand::Client(
                        ClientCommand::List
                            | ClientCommand::Kill
                            | ClientCommand::Info
                            | ClientCommand::Id
                            | ClientCommand::Pause
                            | ClientCommand::Unpause
                    )
            )
        )
    })
}
