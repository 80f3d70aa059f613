//! What a signal asks of a node.
//!
//! ```text
//! SIGTERM, SIGINT   stop in order
//! SIGHUP            read the configuration again; what can't change while it runs is named
//! ```
//! A terminal or a supervisor sends SIGHUP at any time: it never ends a node, from
//! [`take_hangups`] on, which is called before anything is opened.

use std::io;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// From now on SIGHUP does not end the process. One that comes before [`told_to_stop`] listens is
/// lost: the configuration was read a moment ago.
pub(crate) fn take_hangups() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // The process's handler stays when the runtime goes.
    runtime.block_on(async { signal(SignalKind::hangup()).map(drop) })
}

/// Ready once the process is told to stop; calls `reload` at each SIGHUP until then.
pub(crate) async fn told_to_stop(mut reload: impl FnMut()) {
    let handlers = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    match handlers {
        (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) => loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => reload(),
            }
        },
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            tracing::error!(%error, "can't listen for signals: stop the node by killing it");
            std::future::pending().await
        }
    }
}
