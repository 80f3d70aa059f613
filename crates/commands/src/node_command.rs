//! What a node answers itself, as the look-up in the [table](crate::table) finds it: no name is
//! compared once more where it is carried out.
//!
//! The table and the node's `match` keep each other complete. A command that no shard evaluates
//! names one of these, and each of these is named by a command, or [`TABLE`](crate::table::TABLE)
//! does not compile; the node has an arm for each, or its `match` does not.

use crate::spec::{Fanout, Spec};

/// Defines an enum without fields whose values count themselves.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $words:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[doc = concat!("`", $words, "`.")] $variant,)+ }

        impl $name {
            const COUNT: usize = [$($words,)+].len();
        }
    };
}

words! {
    /// What `CLIENT` is told to do.
    ClientCommand {
        Id "CLIENT ID",
        GetName "CLIENT GETNAME",
        SetName "CLIENT SETNAME",
        Kill "CLIENT KILL",
        List "CLIENT LIST",
        Info "CLIENT INFO",
        NoEvict "CLIENT NO-EVICT",
        NoTouch "CLIENT NO-TOUCH",
        SetInfo "CLIENT SETINFO",
        Pause "CLIENT PAUSE",
        Unpause "CLIENT UNPAUSE",
        Reply "CLIENT REPLY",
        Unblock "CLIENT UNBLOCK",
        Tracking "CLIENT TRACKING",
        TrackingInfo "CLIENT TRACKINGINFO",
        Caching "CLIENT CACHING",
        GetRedir "CLIENT GETREDIR",
        Help "CLIENT HELP",
    }
}

words! {
    /// What `COMMAND` is asked.
    TableCommand {
        All "COMMAND",
        Count "COMMAND COUNT",
        Info "COMMAND INFO",
        Docs "COMMAND DOCS",
        List "COMMAND LIST",
        GetKeys "COMMAND GETKEYS",
        GetKeysAndFlags "COMMAND GETKEYSANDFLAGS",
        Help "COMMAND HELP",
    }
}

words! {
    /// What `CONFIG` is told to do.
    ConfigCommand {
        Get "CONFIG GET",
        Set "CONFIG SET",
        ResetStat "CONFIG RESETSTAT",
        Rewrite "CONFIG REWRITE",
        Help "CONFIG HELP",
    }
}

words! {
    /// What `SLOWLOG` is told to do.
    SlowlogCommand {
        Get "SLOWLOG GET",
        Len "SLOWLOG LEN",
        Reset "SLOWLOG RESET",
        Help "SLOWLOG HELP",
    }
}

words! {
    /// What `LATENCY` is told to do.
    LatencyCommand {
        Latest "LATENCY LATEST",
        History "LATENCY HISTORY",
        Reset "LATENCY RESET",
        Histogram "LATENCY HISTOGRAM",
        Doctor "LATENCY DOCTOR",
        Graph "LATENCY GRAPH",
        Help "LATENCY HELP",
    }
}

words! {
    /// What `MEMORY` is asked, but for what a shard knows.
    MemoryCommand {
        Stats "MEMORY STATS",
        Help "MEMORY HELP",
    }
}

words! {
    /// What tools do before they copy files.
    SaveCommand {
        Save "SAVE",
        BgSave "BGSAVE",
        LastSave "LASTSAVE",
        BgRewriteAof "BGREWRITEAOF",
    }
}

words! {
    /// What `KEYSPACE` is told to do.
    KeyspaceCommand {
        Create "KEYSPACE CREATE",
        List "KEYSPACE LIST",
        Show "KEYSPACE SHOW",
        Drop "KEYSPACE DROP",
        Help "KEYSPACE HELP",
    }
}

words! {
    /// What `QUIRE` is told to do.
    QuireCommand {
        Status "QUIRE STATUS",
        Events "QUIRE EVENTS",
        Verify "QUIRE VERIFY",
        Verifications "QUIRE VERIFICATIONS",
        Scrub "QUIRE SCRUB",
        Level "QUIRE LEVEL",
        Rewound "QUIRE REWOUND",
        Wan "QUIRE WAN",
        Help "QUIRE HELP",
    }
}

words! {
    /// What begins and ends a transaction.
    TransactionCommand {
        Multi "MULTI",
        Exec "EXEC",
        Discard "DISCARD",
        Unwatch "UNWATCH",
    }
}

/// Defines [`NodeCommand`], and where each of it stands among all.
macro_rules! node_commands {
    (
        alone: $($single:ident $words:literal,)+;
        several: $($several:ident($command:ident) $contains:literal,)+
    ) => {
        /// A command that the node answers itself: see the [module](self).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum NodeCommand {
            $(#[doc = concat!("`", $words, "`.")] $single,)+
            $(#[doc = concat!("`", $contains, "`.")] $several($command),)+
        }

        /// Those that stand alone, and what has several.
        enum Group { Single, $($several,)+ Transaction }

        enum Single { $($single,)+ }

        const COUNTS: [usize; Group::Transaction as usize + 1] = [
            [$($words,)+].len(),
            $($command::COUNT,)+
            TransactionCommand::COUNT,
        ];

        const fn place(fanout: Fanout) -> Option<(usize, usize)> {
            Some(match fanout {
                Fanout::Node(command) => match command {
                    $(NodeCommand::$single => (Group::Single as usize, Single::$single as usize),)+
                    $(NodeCommand::$several(command) => {
                        (Group::$several as usize, command as usize)
                    })+
                },
                Fanout::Transaction(command) => (Group::Transaction as usize, command as usize),
                _ => return None,
            })
        }
    };
}

node_commands! {
    alone:
    Ping "PING",
    Echo "ECHO",
    Hello "HELLO",
    Auth "AUTH",
    Select "SELECT",
    Reset "RESET",
    Quit "QUIT",
    Info "INFO",
    Role "ROLE",
    Time "TIME",
    Wait "WAIT",
    ReadOnly "READONLY",
    ReadWrite "READWRITE",
    Monitor "MONITOR",
    Debug "DEBUG",
    SwapDb "SWAPDB",
    ObjectHelp "OBJECT HELP",
    Cluster "CLUSTER",
    ;
    several:
    Client(ClientCommand) "CLIENT",
    Table(TableCommand) "COMMAND",
    Config(ConfigCommand) "CONFIG",
    Slowlog(SlowlogCommand) "SLOWLOG",
    Latency(LatencyCommand) "LATENCY",
    Memory(MemoryCommand) "MEMORY",
    Save(SaveCommand) "SAVE",
    Keyspace(KeyspaceCommand) "KEYSPACE",
    Quire(QuireCommand) "QUIRE",
}

/// Those that were met in the table, while it is made at compile time.
pub(crate) struct Named([[bool; 32]; COUNTS.len()]);

impl Named {
    pub(crate) const NONE: Named = Named([[false; 32]; COUNTS.len()]);

    /// `spec` and what it contains. All of it does something, but for mere containers, and these
    /// are never called: they lack an argument.
    pub(crate) const fn note(mut self, spec: &Spec) -> Named {
        if let Some((group, at)) = place(spec.fanout) {
            self.0[group][at] = true;
        }
        let is_container = !spec.subcommands.is_empty();
        assert!(
            !matches!(spec.fanout, Fanout::Container) || is_container && spec.arity <= -2,
            "a command that nobody carries out"
        );
        let mut at = 0;
        while at < spec.subcommands.len() {
            self = self.note(&spec.subcommands[at]);
            at += 1;
        }
        self
    }

    pub(crate) const fn are_all(&self) -> bool {
        let mut group = 0;
        while group < COUNTS.len() {
            let mut at = 0;
            while at < COUNTS[group] {
                if !self.0[group][at] {
                    return false;
                }
                at += 1;
            }
            group += 1;
        }
        true
    }
}
