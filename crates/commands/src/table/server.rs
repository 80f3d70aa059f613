//! The connection and the server: the node answers these.

use super::flags::*;
use crate::{
    node_command::{
        ClientCommand, ConfigCommand, KeyspaceCommand, LatencyCommand, NodeCommand::*,
        QuireCommand, SaveCommand, SlowlogCommand, TableCommand,
    },
    spec::{
        Categories,
        Family::{Cluster, Connection, Generic, Server},
        Flags, Spec,
    },
};

/// What Quire's own subcommands are.
const OPERATORS: Flags = ADMIN.and(NOSCRIPT).and(LOADING).and(STALE);

#[rustfmt::skip]
pub(super) const SPECS: &[Spec] = &[
    Spec::new("ping", -1, FAST, Connection)
        .at_node(Ping)
        .also(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .takes("[message]")
        .doc("Ping the server", "1.0.0", "O(1)"),
    Spec::new("echo", 2, LOADING.and(STALE).and(FAST), Connection)
        .at_node(Echo)
        .also(Categories::CONNECTION)
        .takes("message")
        .doc("Echo the given string", "1.0.0", "O(1)"),
    Spec::new("hello", -1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY), Connection)
        .at_node(Hello)
        .also(Categories::CONNECTION)
        .takes("[arguments=protover:int [AUTH {username_password=username password}] [SETNAME clientname]]")
        .doc("Choose the protocol and introduce the client", "6.0.0", "O(1)"),
    Spec::new("select", 2, LOADING.and(STALE).and(FAST), Connection)
        .at_node(Select)
        .also(Categories::CONNECTION)
        .takes("keyspace")
        .doc("Choose the keyspace of the current connection, by number or name", "1.0.0", "O(1)"),
    Spec::new("reset", 1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY), Connection)
        .at_node(Reset)
        .also(Categories::CONNECTION)
        .doc("Reset the connection", "6.2.0", "O(1)"),
    Spec::new("quit", -1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY), Connection)
        .at_node(Quit)
        .also(Categories::CONNECTION)
        .doc("Close the connection", "1.0.0", "O(1)"),
    Spec::new("info", -1, LOADING.and(STALE), Server)
        .at_node(Info)
        .also(Categories::DANGEROUS)
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .takes("[section]...")
        .doc("Get information and statistics about the server", "1.0.0", "O(1)"),
    Spec::new("role", 1, NOSCRIPT.and(LOADING).and(STALE).and(FAST), Server)
        .at_node(Role)
        .also(Categories::ADMIN.and(Categories::DANGEROUS))
        .doc("Return the role of this node in the keyspace of the connection", "2.8.12", "O(1)"),
    Spec::new("time", 1, LOADING.and(STALE).and(FAST), Server)
        .at_node(Time)
        .tips(&["nondeterministic_output"])
        .doc("Return the current server time", "2.6.0", "O(1)"),
    Spec::new("wait", 3, NOSCRIPT, Generic)
        .at_node(Wait)
        .also(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .takes("numreplicas:int timeout:int")
        .doc("Wait until so many replicas hold the last write of the connection", "3.0.0", "O(1)"),
    Spec::new("readonly", 1, LOADING.and(STALE).and(FAST), Cluster)
        .at_node(ReadOnly)
        .also(Categories::CONNECTION)
        .doc("Does nothing: every node answers reads", "3.0.0", "O(1)"),
    Spec::new("readwrite", 1, LOADING.and(STALE).and(FAST), Cluster)
        .at_node(ReadWrite)
        .also(Categories::CONNECTION)
        .doc("Does nothing: every node takes writes", "3.0.0", "O(1)"),
    Spec::new("keyspace", -2, NONE, Server)
        .subcommands(&[
            Spec::new("keyspace|create", -3, OPERATORS, Server)
                .at_node(Keyspace(KeyspaceCommand::Create))
                .takes("name [PRESET {preset=RDS|AURORA-LIKE|GITHUB|REFERENCE|REFERENCE-SHARDED}] PLACE region=replicas [PRIMARY region] [SHARDS shards:int] [ACK {ack=ASYNC|semi-sync:k|SYNC|QUORUM|LOCAL-QUORUM}] [ON_TIMEOUT {on_timeout=BLOCK|ERROR|DEGRADE}] [TIMEOUT milliseconds:int] [FAILOVER {failover=SAFE|AVAILABLE}] [REPLACE_AFTER milliseconds:int] [TOPOLOGY {topology=PRIMARY-REPLICA}]")
                .doc("Create a keyspace", "0.1.0", "O(N) where N is the number of its shards"),
            Spec::new("keyspace|list", 2, OPERATORS, Server)
                .at_node(Keyspace(KeyspaceCommand::List))
                .doc("Describe every keyspace", "0.1.0", "O(N) where N is the number of keyspaces"),
            Spec::new("keyspace|show", 3, OPERATORS, Server)
                .at_node(Keyspace(KeyspaceCommand::Show))
                .takes("name")
                .doc("Describe one keyspace", "0.1.0", "O(1)"),
            Spec::new("keyspace|drop", 3, OPERATORS, Server)
                .at_node(Keyspace(KeyspaceCommand::Drop))
                .takes("name")
                .doc("Drop a keyspace with all that it holds", "0.1.0", "O(N) where N is the number of its shards"),
            Spec::new("keyspace|help", 2, LOADING.and(STALE), Server)
                .at_node(Keyspace(KeyspaceCommand::Help))
                .doc("Show helpful text about the different subcommands", "0.1.0", "O(1)"),
        ])
        .doc("Create, drop and describe keyspaces", "0.1.0", "Depends on subcommand."),
    Spec::new("quire", -2, NONE, Server)
        .subcommands(&[
            Spec::new("quire|status", 2, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Status))
                .doc("Describe the nodes and the replicas of each shard, as this node sees them", "0.1.0", "O(N) where N is the number of replicas"),
            Spec::new("quire|events", 2, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Events))
                .doc("Tell what was decided about shards and nodes, and why", "0.1.0", "O(N) where N is the number of events that are kept"),
            Spec::new("quire|verify", 3, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Verify))
                .takes("keyspace")
                .doc("Compare all copies of a keyspace at one position", "0.1.0", "O(N) where N is the number of its keys and fields"),
            Spec::new("quire|verifications", 2, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Verifications))
                .doc("Tell how far verifications are that go on", "0.1.0", "O(N) where N is their number"),
            Spec::new("quire|scrub", 2, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Scrub))
                .doc("Look through all files of this node for damage", "0.1.0", "O(N) where N is their size"),
            Spec::new("quire|level", -2, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Level))
                .takes("[what=level:int|HOLD|AUTO]")
                .doc("Show, raise or keep the feature level of the cluster", "0.1.0", "O(N) where N is the number of nodes"),
            Spec::new("quire|rewound", -3, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Rewound))
                .takes("{action=LIST|SHOW {lines=file [cursor:int]}}")
                .doc("Show what failovers lost, as this node has saved it", "0.1.0", "O(N) where N is the number of its files, or of the lines that are shown"),
            Spec::new("quire|wan", -3, OPERATORS, Server)
                .at_node(Quire(QuireCommand::Wan))
                .takes("{action=SHOW|CUT {link=from to}|HEAL {link=from to}|SET {link=from to latency}}")
                .doc("Show and change links that are emulated", "0.1.0", "O(N) where N is the number of links"),
            Spec::new("quire|help", 2, LOADING.and(STALE), Server)
                .at_node(Quire(QuireCommand::Help))
                .doc("Show helpful text about the different subcommands", "0.1.0", "O(1)"),
        ])
        .doc("A container for what only Quire has", "0.1.0", "Depends on subcommand."),
    Spec::new("client", -2, NONE, Connection)
        .subcommands(&[
            Spec::new("client|id", 2, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Id))
                .also(Categories::CONNECTION)
                .doc("Returns the client ID for the current connection", "5.0.0", "O(1)"),
            Spec::new("client|getname", 2, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::GetName))
                .also(Categories::CONNECTION)
                .doc("Get the current connection name", "2.6.9", "O(1)"),
            Spec::new("client|setname", 3, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::SetName))
                .also(Categories::CONNECTION)
                .takes("connection-name")
                .doc("Set the current connection name", "2.6.9", "O(1)"),
            Spec::new("client|kill", -3, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Kill))
                .also(Categories::CONNECTION)
                .takes("{filter=ip:port|{new-format=[ID client-id:int]|[TYPE {normal_master_slave_pubsub=NORMAL|MASTER|SLAVE|REPLICA|PUBSUB}]|[USER username]|[ADDR ip:port]|[LADDR ip:port]|[SKIPME yes/no]}...}")
                .doc("Kill the connection of a client", "2.4.0", "O(N) where N is the number of client connections"),
            Spec::new("client|list", -2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::List))
                .also(Categories::CONNECTION)
                .tips(&["nondeterministic_output"])
                .takes("[TYPE {normal_master_replica_pubsub=NORMAL|MASTER|REPLICA|PUBSUB}] [ID {id=client-id:int...}]")
                .doc("Get the list of client connections", "2.4.0", "O(N) where N is the number of client connections"),
            Spec::new("client|info", 2, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Info))
                .also(Categories::CONNECTION)
                .tips(&["nondeterministic_output"])
                .doc("Returns information about the current client connection.", "6.2.0", "O(1)"),
            Spec::new("client|no-evict", 3, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::NoEvict))
                .also(Categories::CONNECTION)
                .takes("{enabled=ON|OFF}")
                .doc("Does nothing: no client is evicted for its memory by this mode", "7.0.0", "O(1)"),
            Spec::new("client|no-touch", 3, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::NoTouch))
                .also(Categories::CONNECTION)
                .takes("{enabled=ON|OFF}")
                .doc("Does nothing: no access times are kept", "7.2.0", "O(1)"),
            Spec::new("client|setinfo", 4, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::SetInfo))
                .also(Categories::CONNECTION)
                .takes("{attribute=LIB-NAME library|LIB-VER version}")
                .doc("Set information specific to the client or connection", "7.2.0", "O(1)"),
            Spec::new("client|pause", -3, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Pause))
                .also(Categories::CONNECTION)
                .takes("timeout:int [mode=WRITE|ALL]")
                .doc("Hold up the commands of this node's clients for some time", "2.9.50", "O(1)"),
            Spec::new("client|unpause", 2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Unpause))
                .also(Categories::CONNECTION)
                .doc("Resume processing of clients that were paused", "6.2.0", "O(N) Where N is the number of paused clients"),
            Spec::new("client|reply", 3, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Reply))
                .also(Categories::CONNECTION)
                .takes("{on_off_skip=ON|OFF|SKIP}")
                .doc("Instruct the server whether to reply to commands", "3.2.0", "O(1)"),
            Spec::new("client|unblock", -3, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Unblock))
                .also(Categories::CONNECTION)
                .takes("client-id:int [timeout_error=TIMEOUT|ERROR]")
                .doc("Returns 0: no command that is there can be unblocked", "5.0.0", "O(log N) where N is the number of client connections"),
            Spec::new("client|tracking", -3, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Tracking))
                .also(Categories::CONNECTION)
                .takes("OFF")
                .doc("Not supported but for OFF: clients are not tracked", "6.0.0", "O(1). Some options may introduce additional complexity."),
            Spec::new("client|trackinginfo", 2, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::TrackingInfo))
                .also(Categories::CONNECTION)
                .doc("Return information about server assisted client side caching for the current connection", "6.2.0", "O(1)"),
            Spec::new("client|caching", 3, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::Caching))
                .also(Categories::CONNECTION)
                .doc("An error: clients are not tracked", "6.0.0", "O(1)"),
            Spec::new("client|getredir", 2, NOSCRIPT.and(LOADING).and(STALE), Connection)
                .at_node(Client(ClientCommand::GetRedir))
                .also(Categories::CONNECTION)
                .doc("Get tracking notifications redirection client ID if any", "6.0.0", "O(1)"),
            Spec::new("client|help", 2, LOADING.and(STALE), Connection)
                .at_node(Client(ClientCommand::Help))
                .also(Categories::CONNECTION)
                .doc("Show helpful text about the different subcommands", "5.0.0", "O(1)"),
        ])
        .doc("A container for client connection commands", "2.4.0", "Depends on subcommand."),
    Spec::new("command", -1, LOADING.and(STALE), Server)
        .at_node(Table(TableCommand::All))
        .also(Categories::CONNECTION)
        .tips(&["nondeterministic_output_order"])
        .subcommands(&[
            Spec::new("command|count", 2, LOADING.and(STALE), Server)
                .at_node(Table(TableCommand::Count))
                .also(Categories::CONNECTION)
                .doc("Get total number of Redis commands", "2.8.13", "O(1)"),
            Spec::new("command|info", -2, LOADING.and(STALE), Server)
                .at_node(Table(TableCommand::Info))
                .also(Categories::CONNECTION)
                .tips(&["nondeterministic_output_order"])
                .takes("[command-name]...")
                .doc("Get array of specific Redis command details, or all when no argument is given.", "2.8.13", "O(N) where N is the number of commands to look up"),
            Spec::new("command|docs", -2, LOADING.and(STALE), Server)
                .at_node(Table(TableCommand::Docs))
                .also(Categories::CONNECTION)
                .tips(&["nondeterministic_output_order"])
                .takes("[command-name]...")
                .doc("Get array of specific Redis command documentation", "7.0.0", "O(N) where N is the number of commands to look up"),
            Spec::new("command|list", -2, LOADING.and(STALE), Server)
                .at_node(Table(TableCommand::List))
                .also(Categories::CONNECTION)
                .tips(&["nondeterministic_output_order"])
                .takes("[FILTERBY {filterby=MODULE module-name|ACLCAT category|PATTERN pattern}]")
                .doc("Get an array of Redis command names", "7.0.0", "O(N) where N is the total number of Redis commands"),
            Spec::new("command|getkeys", -4, LOADING.and(STALE), Server)
                .at_node(Table(TableCommand::GetKeys))
                .also(Categories::CONNECTION)
                .takes("command arg...")
                .doc("Extract keys given a full Redis command", "2.8.13", "O(N) where N is the number of arguments to the command"),
            Spec::new("command|getkeysandflags", -4, LOADING.and(STALE), Server)
                .at_node(Table(TableCommand::GetKeysAndFlags))
                .also(Categories::CONNECTION)
                .takes("command arg...")
                .doc("Extract keys and access flags given a full Redis command", "7.0.0", "O(N) where N is the number of arguments to the command"),
            Spec::new("command|help", 2, LOADING.and(STALE), Server)
                .at_node(Table(TableCommand::Help))
                .also(Categories::CONNECTION)
                .doc("Show helpful text about the different subcommands", "5.0.0", "O(1)"),
        ])
        .doc("Get array of command details", "2.8.13", "O(N) where N is the total number of Redis commands"),
    Spec::new("config", -2, NONE, Server)
        .subcommands(&[
            Spec::new("config|get", -3, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Config(ConfigCommand::Get))
                .takes("{parameter=parameter}...")
                .doc("Get the values of configuration parameters", "2.0.0", "O(N) when N is the number of configuration parameters provided"),
            Spec::new("config|set", -4, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Config(ConfigCommand::Set))
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .takes("{parameter_value=parameter value}...")
                .doc("Set configuration parameters to the given values", "2.0.0", "O(N) when N is the number of configuration parameters provided"),
            Spec::new("config|resetstat", 2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Config(ConfigCommand::ResetStat))
                .doc("Reset the stats returned by INFO", "2.0.0", "O(1)"),
            Spec::new("config|rewrite", 2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Config(ConfigCommand::Rewrite))
                .doc("Not supported: the configuration file is the operator's", "2.8.0", "O(1)"),
            Spec::new("config|help", 2, LOADING.and(STALE), Server)
                .at_node(Config(ConfigCommand::Help))
                .doc("Show helpful text about the different subcommands", "5.0.0", "O(1)"),
        ])
        .doc("A container for server configuration commands", "2.0.0", "Depends on subcommand."),
    Spec::new("slowlog", -2, NONE, Server)
        .subcommands(&[
            Spec::new("slowlog|get", -2, ADMIN.and(LOADING).and(STALE), Server)
                .at_node(Slowlog(SlowlogCommand::Get))
                .tips(&["request_policy:all_nodes", "nondeterministic_output"])
                .takes("[count:int]")
                .doc("Get the slow log's entries", "2.2.12", "O(N) where N is the number of entries returned"),
            Spec::new("slowlog|len", 2, ADMIN.and(LOADING).and(STALE), Server)
                .at_node(Slowlog(SlowlogCommand::Len))
                .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
                .doc("Get the slow log's length", "2.2.12", "O(1)"),
            Spec::new("slowlog|reset", 2, ADMIN.and(LOADING).and(STALE), Server)
                .at_node(Slowlog(SlowlogCommand::Reset))
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .doc("Clear all entries from the slow log", "2.2.12", "O(N) where N is the number of entries in the slowlog"),
            Spec::new("slowlog|help", 2, LOADING.and(STALE), Server)
                .at_node(Slowlog(SlowlogCommand::Help))
                .doc("Show helpful text about the different subcommands", "6.2.0", "O(1)"),
        ])
        .doc("A container for slow log commands", "2.2.12", "Depends on subcommand."),
    Spec::new("latency", -2, NONE, Server)
        .subcommands(&[
            Spec::new("latency|latest", 2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Latency(LatencyCommand::Latest))
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
                .doc("Return the latest latency samples for all events.", "2.8.13", "O(1)"),
            Spec::new("latency|history", 3, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Latency(LatencyCommand::History))
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
                .takes("event")
                .doc("Return timestamp-latency samples for the event.", "2.8.13", "O(1)"),
            Spec::new("latency|reset", -2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Latency(LatencyCommand::Reset))
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .takes("[event]...")
                .doc("Reset latency data for one or more events.", "2.8.13", "O(1)"),
            Spec::new("latency|histogram", -2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Latency(LatencyCommand::Histogram))
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
                .takes("[command]...")
                .doc("Return the cumulative distribution of latencies of a subset of commands or all.", "7.0.0", "O(N) where N is the number of commands with latency information being retrieved."),
            Spec::new("latency|doctor", 2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Latency(LatencyCommand::Doctor))
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
                .doc("Return a human readable latency analysis report.", "2.8.13", "O(1)"),
            Spec::new("latency|graph", 3, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
                .at_node(Latency(LatencyCommand::Graph))
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"])
                .doc("Not supported: LATENCY HISTORY has the samples", "2.8.13", "O(1)"),
            Spec::new("latency|help", 2, LOADING.and(STALE), Server)
                .at_node(Latency(LatencyCommand::Help))
                .doc("Show helpful text about the different subcommands.", "2.8.13", "O(1)"),
        ])
        .doc("A container for latency diagnostics commands", "2.8.13", "Depends on subcommand."),
    Spec::new("auth", -2, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY), Connection)
        .at_node(Auth)
        .also(Categories::CONNECTION)
        .takes("[username] password")
        .doc("Authenticate to the server: as default, who needs no password", "1.0.0", "O(1)"),
    Spec::new("monitor", 1, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
        .at_node(Monitor)
        .doc("Show every command that clients of this node send", "1.0.0", "O(1)"),
    Spec::new("save", 1, ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING).and(NO_MULTI), Server)
        .at_node(Save(SaveCommand::Save))
        .doc("Wait until all that was written survives a loss of power", "1.0.0", "O(1)"),
    Spec::new("bgsave", -1, ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING), Server)
        .at_node(Save(SaveCommand::BgSave))
        .takes("[SCHEDULE]")
        .doc("Begin to make all that was written survive a loss of power", "1.0.0", "O(1)"),
    Spec::new("lastsave", 1, LOADING.and(STALE).and(FAST), Server)
        .at_node(Save(SaveCommand::LastSave))
        .also(Categories::ADMIN.and(Categories::DANGEROUS))
        .tips(&["nondeterministic_output"])
        .doc("Return the Unix time as of which all that was written survives a loss of power", "1.0.0", "O(1)"),
    Spec::new("bgrewriteaof", 1, ADMIN.and(NOSCRIPT).and(NO_ASYNC_LOADING), Server)
        .at_node(Save(SaveCommand::BgRewriteAof))
        .doc("Does nothing: the log gives up by itself what the stores have", "1.0.0", "O(1)"),
    Spec::new("debug", -2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
        .at_node(Debug)
        .takes("{action=SLEEP seconds:double|HELP}")
        .doc("A container for debugging commands", "1.0.0", "Depends on subcommand."),
    Spec::new("swapdb", 3, WRITE.and(FAST), Server)
        .at_node(SwapDb)
        .also(Categories::KEYSPACE.and(Categories::DANGEROUS))
        .doc("Not supported: a keyspace has a name, shards and a strategy", "4.0.0", "O(N) where N is the count of clients watching or blocking on keys from both databases."),
];
