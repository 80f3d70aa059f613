//! One layout against what is wanted: all its figures, and each promise that it breaks.

use crate::{
    availability::{self, Downtime},
    file::Survives,
    latency::{self, Reader, WriteMs},
    layout::{Layout, Rule, Topology},
    load::{self, Busiest, GB, MONTH_S, SLACK, Utilisation},
    say,
    wanted::Wanted,
};

/// One type of servers in one region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerFigures {
    /// Which type.
    pub server_type: usize,
    /// How many.
    pub count: u32,
    /// How much of the busiest is used.
    pub utilisation: Utilisation,
}

/// What a region's servers carry, and its users get.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionFigures {
    /// What its busiest server does.
    pub busiest: Busiest,
    /// Its servers.
    pub servers: Vec<ServerFigures>,
    /// What its users' writes take; None if the rule can never hold.
    pub write_ms: Option<WriteMs>,
    /// Who answers its users' reads.
    pub reader: Reader,
    /// What these take.
    pub read_ms: f64,
    /// How old what they show may be.
    pub staleness_ms: f64,
    /// How long a read of one's own write waits at most.
    pub own_write_wait_ms: f64,
    /// Of its users' reads.
    pub read_downtime: Downtime,
}

/// All figures of a layout. Money in cents; what is beyond them is the most there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// By region.
    pub regions: Vec<RegionFigures>,
    /// Servers before the discount.
    pub list_cents: u64,
    /// Servers after it.
    pub servers_cents: u64,
    /// What goes between regions.
    pub network_cents: u64,
    /// What goes between regions.
    pub network_bytes_per_s: f64,
    /// All copies.
    pub storage_bytes: f64,
    /// How much of the busiest server is used at most while any one server is down.
    pub used_with_one_down: f64,
    /// Of writes.
    pub write_downtime: Downtime,
    /// What an acknowledged write survives.
    pub survives: Survives,
    /// See [`availability::writes_at_risk_per_year`].
    pub writes_at_risk_per_year: f64,
}

impl Figures {
    /// What it costs a month.
    pub fn cents(&self) -> u64 {
        self.servers_cents.saturating_add(self.network_cents)
    }

    /// Of writes, or of the reads of the region that is worst off.
    pub fn availability(&self) -> f64 {
        let reads = self.regions.iter().map(|r| r.read_downtime.availability());
        reads.fold(self.write_downtime.availability(), f64::min)
    }
}

/// A promise or a bound that a layout breaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Violation {
    /// More than a server takes.
    Utilisation {
        /// Where.
        region: usize,
        /// Of which type, as a place in the region's servers.
        servers: usize,
    },
    /// More than a disk holds.
    Storage {
        /// Where.
        region: usize,
        /// Of which type, as a place in the region's servers.
        servers: usize,
    },
    /// More servers than a region may have.
    Servers {
        /// Where.
        region: usize,
        /// How many it takes.
        needed: u32,
    },
    /// More copies than a region may have.
    Copies {
        /// Where.
        region: usize,
    },
    /// More shards than there may be.
    Shards,
    /// Slower than promised, in a region.
    Write(usize),
    /// Slower than promised, in a region.
    Read(usize),
    /// Older than promised, in a region.
    Staleness(usize),
    /// Writes, or the reads of a region, are answered less often than promised.
    Availability {
        /// None: writes.
        reads_of: Option<usize>,
    },
    /// An acknowledged write survives less than promised.
    Survives,
    /// It costs too much.
    Budget,
    /// Writes merge, and may not.
    Merges,
    /// The rule is another one than asked for.
    Rule,
    /// The topology is not among those considered.
    Topology,
    /// There are too few copies for the rule ever to hold.
    Unmeetable,
    /// With so few copies the rule waits for nobody: it is `async` by a stronger name.
    Empty,
}

/// A layout, its figures, and what it breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What was judged.
    pub layout: Layout,
    /// What it does.
    pub figures: Figures,
    /// In the order in which a person would look; empty: it keeps everything.
    pub violations: Vec<Violation>,
}

/// The price of a region's servers, in cents, before and after the discount.
pub(crate) fn price_cents(wanted: &Wanted, server_type: usize, count: u32) -> (u64, u64) {
    let list = wanted.server_type(server_type).price_per_month * f64::from(count) * 100.0;
    let paid = list * (1.0 - wanted.file().constraints.reserved_discount);
    (list.round() as u64, paid.round() as u64)
}

/// The price of so much traffic, in cents a month.
pub(crate) fn network_cents(wanted: &Wanted, bytes_per_s: f64) -> u64 {
    let price = wanted.file().constraints.network_price_per_gb;
    (bytes_per_s * MONTH_S / GB * price * 100.0).round() as u64
}

/// Computes everything of a layout.
pub fn judge(wanted: &Wanted, layout: Layout) -> Judged {
    let readers: Vec<(Reader, f64)> = (0..wanted.regions())
        .map(|from| latency::reader(wanted, &layout, from))
        .collect();
    let incoming = load::incoming(wanted, &readers);
    let (mut list_cents, mut servers_cents) = (0_u64, 0_u64);
    let mut regions = Vec::new();
    for region in 0..wanted.regions() {
        let there = layout.servers_in(region);
        let busiest = load::busiest(wanted, &layout, region, incoming[region], there);
        let mut servers = Vec::new();
        for s in &layout.servers[region] {
            let (list, paid) = price_cents(wanted, s.server_type, s.count);
            list_cents = list.saturating_add(list_cents);
            servers_cents = paid.saturating_add(servers_cents);
            servers.push(ServerFigures {
                server_type: s.server_type,
                count: s.count,
                utilisation: load::utilisation(wanted, busiest, wanted.server_type(s.server_type)),
            });
        }
        let (reader, staleness_ms) = readers[region];
        regions.push(RegionFigures {
            busiest,
            servers,
            write_ms: latency::write_ms(wanted, &layout, region),
            reader,
            read_ms: latency::read_ms(wanted, &layout, region, reader),
            staleness_ms,
            own_write_wait_ms: latency::own_write_wait_ms(wanted, &layout, region, reader),
            read_downtime: availability::reads(wanted, &layout, region, reader),
        });
    }
    let network_bytes_per_s = load::network_bytes_per_s(wanted, &layout, &readers);
    let figures = Figures {
        regions,
        list_cents,
        servers_cents,
        network_cents: network_cents(wanted, network_bytes_per_s),
        network_bytes_per_s,
        storage_bytes: wanted.data_bytes() * f64::from(layout.replication_factor()),
        used_with_one_down: load::used_with_one_down(wanted, &layout, &readers),
        write_downtime: availability::writes(wanted, &layout),
        survives: availability::survives(wanted, &layout),
        writes_at_risk_per_year: availability::writes_at_risk_per_year(wanted, &layout),
    };
    let violations = violations(wanted, &layout, &figures);
    Judged {
        layout,
        figures,
        violations,
    }
}

/// Whether the rule waits for nobody, whatever it is called.
pub(crate) fn is_empty(layout: &Layout) -> bool {
    match layout.rule {
        Rule::Async | Rule::SemiSync { .. } => false,
        Rule::LocalQuorum if layout.topology == Topology::MultiPrimary => {
            layout.copies.iter().all(|&n| n < 2)
        }
        Rule::LocalQuorum => layout.homes().any(|(home, _)| layout.copies[home] < 2),
        Rule::Quorum | Rule::Sync => latency::voting(layout) < 2,
    }
}

/// What a layout breaks by its topology and rule alone.
pub(crate) fn of_topology_and_rule(wanted: &Wanted, layout: &Layout) -> Vec<Violation> {
    let mut found = Vec::new();
    if !wanted.topologies().contains(&layout.topology) {
        found.push(Violation::Topology);
    }
    if layout.topology == Topology::MultiPrimary && !wanted.file().promises.may_merge {
        found.push(Violation::Merges);
    }
    if wanted.rule().is_some_and(|rule| rule != layout.rule) {
        found.push(Violation::Rule);
    }
    found
}

fn violations(wanted: &Wanted, layout: &Layout, figures: &Figures) -> Vec<Violation> {
    let mut found = of_topology_and_rule(wanted, layout);
    let promises = &wanted.file().promises;
    let constraints = &wanted.file().constraints;
    if figures.regions.iter().any(|r| r.write_ms.is_none()) {
        found.push(Violation::Unmeetable);
    } else if is_empty(layout) {
        found.push(Violation::Empty);
    }
    if figures.survives < promises.survives {
        found.push(Violation::Survives);
    }
    if layout.shards > constraints.shards_max {
        found.push(Violation::Shards);
    }
    for (region, of) in figures.regions.iter().enumerate() {
        for (servers, s) in of.servers.iter().enumerate() {
            if s.utilisation.both > constraints.utilisation_max + SLACK {
                found.push(Violation::Utilisation { region, servers });
            }
            let room = wanted.server_type(s.server_type).storage_gb;
            if room.is_some_and(|gb| of.busiest.bytes > gb * GB * (1.0 + SLACK)) {
                found.push(Violation::Storage { region, servers });
            }
        }
        let needed = layout.servers_in(region);
        if needed > constraints.servers_max_per_region {
            found.push(Violation::Servers { region, needed });
        }
        if layout.copies[region] > constraints.copies_max_per_region {
            found.push(Violation::Copies { region });
        }
    }
    for (region, of) in figures.regions.iter().enumerate() {
        let above = |value: f64, max: Option<f64>| max.is_some_and(|max| value > max + SLACK);
        if let Some(ms) = of.write_ms
            && wanted.writes_from(region) > 0.0
            && above(ms.worst, wanted.write_ms_max(region))
        {
            found.push(Violation::Write(region));
        }
        if wanted.reads_from(region) > 0.0 {
            if above(of.read_ms, wanted.read_ms_max(region)) {
                found.push(Violation::Read(region));
            }
            if above(of.staleness_ms, promises.staleness_ms_max) {
                found.push(Violation::Staleness(region));
            }
        }
    }
    if let Some(min) = promises.availability_min {
        let below = |down: &Downtime| down.availability() < min - 1e-12;
        if wanted.file().load.writes_per_s > 0.0 && below(&figures.write_downtime) {
            found.push(Violation::Availability { reads_of: None });
        }
        for (region, of) in figures.regions.iter().enumerate() {
            if wanted.reads_from(region) > 0.0 && below(&of.read_downtime) {
                let reads_of = Some(region);
                found.push(Violation::Availability { reads_of });
            }
        }
    }
    let budget = constraints.budget_per_month;
    if budget.is_some_and(|budget| figures.cents() as f64 > (budget * 100.0).round()) {
        found.push(Violation::Budget);
    }
    found
}

/// What the copies of a region are to answer together.
pub(crate) fn reads_at(wanted: &Wanted, judged: &Judged, region: usize) -> f64 {
    (0..wanted.regions())
        .map(|from| match judged.figures.regions[from].reader {
            Reader::Copies(r) if r == region => wanted.reads_from(from),
            Reader::Copies(_) => 0.0,
            Reader::Primaries => {
                let homes = judged.layout.homes();
                let here: f64 = homes
                    .filter(|(r, _)| *r == region)
                    .map(|(_, part)| part)
                    .sum();
                here * wanted.reads_from(from)
            }
        })
        .sum()
}

/// What servers of a type in a region can't carry, and by how much.
fn say_full(wanted: &Wanted, judged: &Judged, region: usize, servers: usize) -> String {
    let of = &judged.figures.regions[region];
    let s = of.servers[servers];
    let server_type = wanted.server_type(s.server_type);
    let there = judged.layout.servers_in(region);
    let name = wanted.region(region);
    let (writes, reads) = (of.busiest.writes_per_s, of.busiest.reads_per_s);
    let on = format!("{} in {name}", say::count(there, "server"));
    let used = s.utilisation;
    let each = if there == 1 { "" } else { " on the busiest" };
    if used.writes > 1.0 + SLACK {
        return format!(
            "{on}: each copy applies every write of its shard, {} writes/s{each}, where one does {}: {}",
            say::whole(writes),
            say::whole(server_type.writes_per_s),
            say::percent(used.writes)
        );
    }
    if used.writes > 1.0 - SLACK {
        let fill = match there {
            1 => "it",
            2 => "both",
            _ => "each",
        };
        return format!(
            "{on}: {} writes/s fill {fill}; no room for {} reads/s",
            say::whole(writes),
            say::whole(reads_at(wanted, judged, region))
        );
    }
    format!(
        "{on}: {} writes/s take {} and {} reads/s {}{each}: together {}, and {} may be used",
        say::whole(writes),
        say::percent(used.writes),
        say::whole(reads),
        say::percent(used.reads),
        say::percent(used.both),
        say::percent(wanted.file().constraints.utilisation_max)
    )
}

impl Violation {
    /// What a colleague would say.
    pub fn say(&self, wanted: &Wanted, judged: &Judged) -> String {
        let (layout, figures) = (&judged.layout, &judged.figures);
        let promises = &wanted.file().promises;
        let constraints = &wanted.file().constraints;
        let name = |region: usize| wanted.region(region);
        let ms = |ms: Option<f64>| ms.map_or("-".into(), say::short);
        let rule = layout.rule.named(layout.topology, wanted);
        match *self {
            Violation::Utilisation { region, servers } => say_full(wanted, judged, region, servers),
            Violation::Storage { region, servers } => {
                let of = &figures.regions[region];
                let t = wanted.server_type(of.servers[servers].server_type);
                format!(
                    "a server in {} holds {}, and a {} has {}",
                    name(region),
                    say::bytes(of.busiest.bytes),
                    t.name,
                    say::bytes(t.storage_gb.unwrap_or(0.0) * GB)
                )
            }
            Violation::Servers { region, needed } => format!(
                "{} takes {} servers, and a region may have {}",
                name(region),
                needed,
                constraints.servers_max_per_region
            ),
            Violation::Copies { region } => format!(
                "{} holds {} copies of each shard, and a region may have {}",
                name(region),
                layout.copies[region],
                constraints.copies_max_per_region
            ),
            Violation::Shards => format!(
                "{} shards, and there may be {}",
                layout.shards, constraints.shards_max
            ),
            Violation::Write(region) => format!(
                "a write from {} takes {} ms, and may take {}",
                name(region),
                ms(figures.regions[region].write_ms.map(|w| w.worst)),
                ms(wanted.write_ms_max(region))
            ),
            Violation::Read(region) => format!(
                "a read from {} takes {} ms, and may take {}",
                name(region),
                say::short(figures.regions[region].read_ms),
                ms(wanted.read_ms_max(region))
            ),
            Violation::Staleness(region) => format!(
                "what {} reads may be {} ms old, and may not be older than {}",
                name(region),
                say::short(figures.regions[region].staleness_ms),
                ms(promises.staleness_ms_max)
            ),
            Violation::Availability { reads_of } => {
                let (whose, down) = match reads_of {
                    None => ("writes are".to_string(), &figures.write_downtime),
                    Some(r) => {
                        let down = &figures.regions[r].read_downtime;
                        (format!("reads from {} are", name(r)), down)
                    }
                };
                format!(
                    "{whose} answered {} of the time ({} a year are not), and {} is promised",
                    say::availability(down.availability()),
                    say::minutes(down.minutes()),
                    say::availability(promises.availability_min.unwrap_or(0.0))
                )
            }
            Violation::Survives => {
                let lost = match promises.survives {
                    Survives::Nothing => "nothing",
                    Survives::Server => "the loss of any server",
                    Survives::Region => "the loss of any region",
                };
                format!("an acknowledged write is to survive {lost}; {rule} does not promise that")
            }
            Violation::Budget => format!(
                "it costs {} a month, and the budget is {}",
                say::money(figures.cents()),
                say::money((constraints.budget_per_month.unwrap_or(0.0) * 100.0).round() as u64)
            ),
            Violation::Merges => {
                "two regions' writes to one key at once merge, and promises.may_merge is false"
                    .into()
            }
            Violation::Rule => format!(
                "{rule}, where {} is asked for",
                promises.rule.as_deref().unwrap_or("-")
            ),
            Violation::Topology => {
                format!("{} is not among constraints.topologies", layout.topology)
            }
            Violation::Unmeetable => format!("too few copies for {rule} ever to hold"),
            Violation::Empty => {
                format!(
                    "with so few copies {rule} waits for nobody, and promises no more than async"
                )
            }
        }
    }
}
