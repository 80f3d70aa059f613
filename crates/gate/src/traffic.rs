//! What the host counts of its clients' connections: it has the sockets.

/// See the module. The counts only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that clients have sent.
    pub input_bytes: u64,
    /// Bytes that were sent to clients.
    pub output_bytes: u64,
    /// Connections that were not taken, since there were as many as there may be.
    pub turned_away: u64,
}

impl Traffic {
    /// What came after `before`.
    pub(crate) fn since(self, before: Traffic) -> Traffic {
        Traffic {
            input_bytes: self.input_bytes.saturating_sub(before.input_bytes),
            output_bytes: self.output_bytes.saturating_sub(before.output_bytes),
            turned_away: self.turned_away.saturating_sub(before.turned_away),
        }
    }
}
