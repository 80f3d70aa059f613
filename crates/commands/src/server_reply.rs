//! The HELP of containers: one line a subcommand, only those that are there.

use crate::Spec;
use resp::Encoder;

/// Appends the reply to `CONTAINER HELP`.
pub fn help(container: &Spec, out: &mut Encoder<'_>) {
    let name = container.name.to_ascii_uppercase();
    out.array(1 + 2 * container.subcommands.len());
    out.simple(format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for spec in container.subcommands {
        let own = spec.name.split_once('|').map_or(spec.name, |(_, own)| own);
        out.simple(own.to_ascii_uppercase());
        out.simple(format!("    {}.", spec.summary));
    }
}
