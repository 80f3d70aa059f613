//! Who holds the catalog, of the nodes of a new cluster.

/// Members of the control group at most.
const VOTERS_MAX: usize = 5;
/// Of one region, as long as there are others.
const VOTERS_OF_REGION: usize = 2;

/// Of nodes, each with its id and region: five, three or one, two of each region in order; more of
/// a region only where there are too few regions.
pub(crate) fn of<'a>(nodes: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let wanted = match nodes.len() {
        0..=2 => 1,
        3..=4 => 3,
        _ => VOTERS_MAX,
    };
    let mut seen_of_region = Vec::<(&str, usize)>::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (id, of) in nodes {
        let at = seen_of_region
            .iter()
            .position(|(region, _)| *region == of)
            .unwrap_or_else(|| {
                seen_of_region.push((of, 0));
                seen_of_region.len() - 1
            });
        seen_of_region[at].1 += 1;
        if seen_of_region[at].1 <= VOTERS_OF_REGION {
            first.push(id.to_owned());
        } else {
            rest.push(id.to_owned());
        }
    }
    first.into_iter().chain(rest).take(wanted).collect()
}
