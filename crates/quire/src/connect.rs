//! Connecting to a node by what people call it: a name may take a while to be resolved, and mean
//! several IPs, of which some lead nowhere.

use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

/// IPs of a name that are tried.
const PLACES_MAX: usize = 8;
/// An attempt that takes longer is not waited for before the next one begins.
const STAGGER: Duration = Duration::from_millis(100);

/// The first connection that stands, of `addr`'s IPs. Resolving may take as long as connecting.
/// An error says what has failed, without the address.
pub(crate) async fn connect(addr: &str, within: Duration) -> Result<TcpStream, String> {
    let places = timeout(within, lookup_host(addr))
        .await
        .map_err(|_| format!("its name is not resolved within {within:?}"))?
        .map_err(|e| e.to_string())?;
    let places: Vec<SocketAddr> = places.take(PLACES_MAX).collect();
    timeout(within, first_of(places, TcpStream::connect))
        .await
        .map_err(|_| format!("no answer within {within:?}"))?
        .map_err(|e| e.to_string())
}

/// The first that stands. An attempt that fails makes room for the next at once; the last failure
/// is the error.
async fn first_of<T, F>(places: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut places = places.into_iter().peekable();
    let mut attempts = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name resolves to no IP");
    loop {
        if let Some(place) = places.next() {
            attempts.spawn(connect(place));
        }
        tokio::select! {
            joined = attempts.join_next() => match joined {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => failed = error,
                Some(Err(_)) => {}
                None => return Err(failed),
            },
            () = sleep(STAGGER), if places.peek().is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn a_place_that_does_not_answer_does_not_keep_from_the_next() {
        const REFUSES: u16 = 1;
        const SILENT: u16 = 2;
        const THERE: u16 = 3;
        let try_in_order = |ports: &[u16]| {
            let places = ports.iter().map(|port| ([127, 0, 0, 1], *port).into());
            let first = first_of(places.collect(), |place| async move {
                match place.port() {
                    REFUSES => Err(io::ErrorKind::ConnectionRefused.into()),
                    SILENT => std::future::pending().await,
                    port => Ok(port),
                }
            });
            run(async { timeout(LONG, first).await.unwrap() }).map_err(|e| e.kind())
        };
        for ports in [&[REFUSES, SILENT, THERE][..], &[SILENT, REFUSES, THERE]] {
            assert_eq!(try_in_order(ports), Ok(THERE));
        }
        let refused = io::ErrorKind::ConnectionRefused;
        assert_eq!(try_in_order(&[REFUSES, REFUSES]), Err(refused));
        assert_eq!(try_in_order(&[]), Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn a_name_that_nobody_knows_is_said_to_be_one() {
        let error = run(connect("quire.invalid:7001", LONG)).unwrap_err();
        assert!(
            error.contains("lookup") || error.contains("resolve"),
            "{error}"
        );
    }
}
