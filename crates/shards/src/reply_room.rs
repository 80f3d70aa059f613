//! How long a reply may be.

/// The longest message that a node takes: a host refuses longer ones, so that whoever makes a
/// message sees to it that it is no longer.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// The longest reply: a message has room for it and what goes with it.
pub const REPLY_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (1 << 20);
/// What is longer than this is handed on with the memory that it was written to.
pub const LARGE: usize = 64 << 10;

/// How long a reply may be.
#[derive(Clone, Copy, Debug)]
pub struct ReplyRoom {
    /// In bytes.
    pub bytes: usize,
    /// What all of them together may take.
    pub max: usize,
}

impl ReplyRoom {
    /// Why a reply of so many bytes is not given.
    pub fn refusal(&self, name: &str, bytes: usize) -> Option<String> {
        if bytes <= self.bytes {
            return None;
        }
        Some(if bytes > REPLY_BYTES_MAX {
            too_long(name, bytes)
        } else {
            format!(
                "BUSY replies that were not taken yet fill the memory for them (limits.reply_memory_bytes is {}): '{name}' was not carried out, try again",
                self.max
            )
        })
    }
}

/// The error for a command whose reply would be too long.
pub fn too_long(name: &str, bytes: usize) -> String {
    format!(
        "ERR '{name}' would be answered with {bytes} bytes, a reply has at most {REPLY_BYTES_MAX}: ask for a part at a time"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_the_bound_that_it_breaks() {
        let room = ReplyRoom {
            bytes: 10,
            max: 100 << 20,
        };
        assert_eq!(room.refusal("get", 10), None);
        let line = room.refusal("get", 11).unwrap();
        assert!(line.starts_with("BUSY ") && line.contains("limits.reply_memory_bytes"));
        let line = room.refusal("hgetall", 70 << 20).unwrap();
        assert!(line.starts_with("ERR 'hgetall' would be answered with 73400320 bytes, "));
    }
}
