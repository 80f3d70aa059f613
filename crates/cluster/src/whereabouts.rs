//! Where a node looks for a peer: as the catalog has it, then as its own configuration has it. Pure.
//!
//! The catalog has what the peer itself said last. By that alone a peer that advertises what leads
//! nowhere would be reached by nobody, and voters that have all moved could not agree on where they
//! are. Whoever answers at an address says who it is, so looking at one too many does no harm.

use model::Address;

/// A peer's addresses, of which there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    /// The likeliest first, each once.
    addresses: Vec<Address>,
    configured: Option<Address>,
}

impl Whereabouts {
    /// Of a peer that this node's configuration names.
    pub(crate) fn configured(address: &Address) -> Self {
        Whereabouts {
            addresses: vec![address.clone()],
            configured: Some(address.clone()),
        }
    }

    /// Of a peer that the catalog alone names.
    pub(crate) fn agreed(address: &Address) -> Self {
        Whereabouts {
            addresses: vec![address.clone()],
            configured: None,
        }
    }

    /// The catalog says that the peer is at `agreed`. Returns whether that is news.
    pub(crate) fn follow(&mut self, agreed: &Address) -> bool {
        let configured = self.configured.iter().filter(|other| *other != agreed);
        let addresses: Vec<_> = [agreed].into_iter().chain(configured).cloned().collect();
        let is_news = self.addresses != addresses;
        self.addresses = addresses;
        is_news
    }

    /// The likeliest first.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn the_catalog_goes_first_and_the_configuration_stays() {
        let (here, there, elsewhere) = (at("db1:7021"), at("10.0.0.1:7021"), at("10.0.0.2:7021"));
        let mut places = Whereabouts::configured(&here);
        assert_eq!(places.addresses(), std::slice::from_ref(&here));
        assert!(
            !places.follow(&here),
            "a link that is up need not be remade"
        );
        assert!(places.follow(&there));
        assert_eq!(places.addresses(), [there.clone(), here.clone()]);
        assert!(!places.follow(&there));
        assert!(places.follow(&elsewhere));
        assert_eq!(places.addresses(), [elsewhere.clone(), here.clone()]);
        assert!(places.follow(&here));
        assert_eq!(places.addresses(), [here]);

        let mut places = Whereabouts::agreed(&there);
        assert!(!places.follow(&there));
        assert!(places.follow(&elsewhere));
        assert_eq!(places.addresses(), [elsewhere]);
    }
}
