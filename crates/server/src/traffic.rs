//! What went over clients' connections, counted as it is read and written.
//!
//! Only the thread that has the sockets counts, so no count is ever added to by two at once.

use node::Traffic;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static INPUT_BYTES: AtomicU64 = AtomicU64::new(0);
static OUTPUT_BYTES: AtomicU64 = AtomicU64::new(0);
static TURNED_AWAY: AtomicU64 = AtomicU64::new(0);

fn add(count: &AtomicU64, more: usize) {
    count.store(count.load(Relaxed).wrapping_add(more as u64), Relaxed);
}

pub(crate) fn read(bytes: usize) {
    add(&INPUT_BYTES, bytes);
}

pub(crate) fn written(bytes: usize) {
    add(&OUTPUT_BYTES, bytes);
}

pub(crate) fn turned_away() {
    add(&TURNED_AWAY, 1);
}

/// All of it, since the process began.
pub(crate) fn counted() -> Traffic {
    Traffic {
        input_bytes: INPUT_BYTES.load(Relaxed),
        output_bytes: OUTPUT_BYTES.load(Relaxed),
        turned_away: TURNED_AWAY.load(Relaxed),
    }
}
