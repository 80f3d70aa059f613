//! Names to IPs, at each connect and off the node's thread.
//!
//! The system's resolver may take as long as it likes, and knows no bound. Each look-up therefore
//! has a thread of its own, which nobody waits for without a bound, nor when the node ends.
//! [`Lookup`] keeps the threads few: whoever asks again while one is at it waits for that one.

use model::Address;
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// IPs of a name that are tried.
const ADDRESSES_MAX: usize = 8;

type Found = io::Result<Vec<SocketAddr>>;

/// Who knows what names mean.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Fn(&Address) -> Found + Send + Sync>);

impl Resolver {
    /// The system: its hosts file, its name servers.
    pub fn system() -> Self {
        Resolver::new(|name| {
            Ok((name.host().as_str(), name.port())
                .to_socket_addrs()?
                .collect())
        })
    }

    /// Something else, which may block.
    pub fn new(resolve: impl Fn(&Address) -> Found + Send + Sync + 'static) -> Self {
        Resolver(Arc::new(resolve))
    }
}

/// Why a name has no IP now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("its name can't be resolved: {0}")]
    Failed(#[from] io::Error),
    #[error("its name resolves to no IP")]
    Nothing,
    #[error("its name is not resolved within {0:?}")]
    Slow(Duration),
}

/// Looks up one address, again and again.
#[derive(Default)]
pub(crate) struct Lookup {
    under_way: Option<oneshot::Receiver<Found>>,
}

impl Lookup {
    /// Where `address` is now: at most eight places, each once, as the resolver would have them
    /// tried. An IP is itself. A look-up that takes longer than `within` goes on.
    pub(crate) async fn find(
        &mut self,
        resolver: &Resolver,
        address: &Address,
        within: Duration,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Some(socket) = address.socket() {
            return Ok(vec![socket]);
        }
        let mut lookup = match self.under_way.take() {
            Some(under_way) => under_way,
            None => begin(resolver.clone(), address.clone())?,
        };
        let Ok(found) = timeout(within, &mut lookup).await else {
            self.under_way = Some(lookup);
            return Err(ResolveError::Slow(within));
        };
        let mut places = Vec::new();
        // The thread ends without an answer only where the resolver panics.
        for place in found.map_err(|_| ResolveError::Nothing)?? {
            if places.len() < ADDRESSES_MAX && !places.contains(&place) {
                places.push(place);
            }
        }
        match places.is_empty() {
            true => Err(ResolveError::Nothing),
            false => Ok(places),
        }
    }
}

fn begin(resolver: Resolver, address: Address) -> io::Result<oneshot::Receiver<Found>> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new()
        .name("resolve".into())
        .spawn(move || tell.send(resolver.0(&address)))?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    };

    /// For a thread on a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(future)
    }

    fn place(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn an_ip_is_not_looked_up_and_localhost_is_known() {
        let nobody = Resolver::new(|_| Err(io::ErrorKind::Other.into()));
        let mut lookup = Lookup::default();
        let ip = "[::1]:7001".parse().unwrap();
        let found = run(lookup.find(&nobody, &ip, LONG)).unwrap();
        assert_eq!(found, ["[::1]:7001".parse().unwrap()]);
        let name = "localhost:7001".parse().unwrap();
        let found = run(lookup.find(&Resolver::system(), &name, LONG)).unwrap();
        assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_loopback()));
    }

    #[test]
    fn each_time_it_is_asked_anew_and_what_comes_is_bounded() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let resolver = Resolver::new(move |_| match counted.fetch_add(1, SeqCst) {
            0 => Ok([2, 1, 2, 1].map(place).into()),
            1 => Ok((1..100).map(place).collect()),
            2 => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        });
        let name: Address = "db1:7001".parse().unwrap();
        let mut lookup = Lookup::default();
        run(async {
            let found = lookup.find(&resolver, &name, LONG).await.unwrap();
            assert_eq!(found, [2, 1].map(place));
            let found = lookup.find(&resolver, &name, LONG).await.unwrap();
            assert_eq!(found.len(), ADDRESSES_MAX);
            let found = lookup.find(&resolver, &name, LONG).await;
            assert!(matches!(found, Err(ResolveError::Nothing)));
            let error = lookup
                .find(&resolver, &name, LONG)
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains("no such name"), "{error}");
        });
        assert_eq!(asked.load(SeqCst), 4);
    }

    #[test]
    fn a_resolver_that_hangs_is_not_asked_again_meanwhile() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let (go_on, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(hangs);
        let resolver = Resolver::new(move |_| {
            counted.fetch_add(1, SeqCst);
            let _ = hangs.lock().unwrap().recv();
            Ok(vec![place(1)])
        });
        let name: Address = "db1:7001".parse().unwrap();
        let mut lookup = Lookup::default();
        run(async {
            for _ in 0..20 {
                let found = lookup.find(&resolver, &name, Duration::ZERO).await;
                assert!(matches!(found, Err(ResolveError::Slow(_))));
            }
            drop(go_on);
            assert_eq!(
                lookup.find(&resolver, &name, LONG).await.unwrap(),
                [place(1)]
            );
        });
        assert_eq!(asked.load(SeqCst), 1);
    }
}
