//! A layout that is given, judged rule by rule in the words of a colleague; and what is claimed
//! of it, beside what is computed.

use crate::{
    availability::{self, YEAR_MIN},
    judge::{Judged, Violation, judge, reads_at},
    latency::{self, Reader},
    layout::{Claims, LayoutFile, Topology},
    load::GB,
    say,
    wanted::{PlanError, Wanted, number_of},
};

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A promise or a bound that is not kept.
    Broken,
    /// A claim that is not true.
    Claim,
    /// What one should know.
    Note,
}

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// The sentence.
    pub says: String,
}

/// A layout, all that is computed of it, and what there is to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Its figures.
    pub judged: Judged,
    /// What is broken first, then claims, then notes.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Whether it keeps all that is wanted; claims are another matter.
    pub fn is_sound(&self) -> bool {
        self.judged.violations.is_empty()
    }
}

/// A claim and a computed figure are the same if they differ by less than a hundredth.
fn agree(claimed: f64, computed: f64) -> bool {
    (claimed - computed).abs() <= 0.01 * computed.abs().max(claimed.abs())
}

/// Judges a layout.
pub fn check(wanted: &Wanted, file: &LayoutFile) -> Result<Checked, PlanError> {
    let judged = judge(wanted, file.resolve(wanted)?);
    let mut findings = Vec::new();
    let mut add = |kind, says: Vec<String>| {
        findings.extend(says.into_iter().map(|says| Finding { kind, says }));
    };
    add(Kind::Broken, capacity(wanted, &judged));
    let rest = judged
        .violations
        .iter()
        .filter(|v| !matches!(v, Violation::Utilisation { .. }));
    add(Kind::Broken, rest.map(|v| v.say(wanted, &judged)).collect());
    if let Some(claims) = &file.claims {
        add(Kind::Claim, claimed(wanted, &judged, claims)?);
    }
    add(Kind::Note, notes(wanted, &judged));
    Ok(Checked { judged, findings })
}

/// What is too much for a primary, for a region's copies, and for a region whatever it does.
fn capacity(wanted: &Wanted, judged: &Judged) -> Vec<String> {
    let mut says = Vec::new();
    for (region, of) in judged.figures.regions.iter().enumerate() {
        let overfull =
            |v: &&Violation| matches!(v, Violation::Utilisation { region: r, .. } if *r == region);
        let Some(violation) = judged.violations.iter().find(overfull) else {
            continue;
        };
        let Violation::Utilisation { servers, .. } = violation else {
            continue;
        };
        let t = wanted.server_type(of.servers[*servers].server_type);
        let (writes, one) = (of.busiest.writes_per_s, t.writes_per_s);
        let name = wanted.region(region);
        if writes <= one * (1.0 + crate::load::SLACK) {
            says.push(violation.say(wanted, judged));
            continue;
        }
        if judged.layout.primaries[region] > 0 {
            says.push(format!(
                "the primary in {name} takes {} writes/s, where a server does {}: {} of it",
                say::whole(writes),
                say::whole(one),
                say::percent(writes / one)
            ));
        }
        let there = f64::from(judged.layout.servers_in(region));
        let all = wanted.file().load.writes_per_s;
        let at_once = if there * one <= all * (1.0 + crate::load::SLACK) {
            format!(
                "; and cut into shards, a single copy of everything makes {} of {} writes/s {} before the first read",
                say::count(judged.layout.servers_in(region), "server"),
                say::whole(one),
                if there * one < all {
                    "overfull"
                } else {
                    "full"
                }
            )
        } else {
            String::new()
        };
        says.push(format!(
            "every copy in {name} applies each write too, {} writes/s, where a server does {}{at_once}",
            say::whole(writes),
            say::whole(one)
        ));
    }
    says
}

fn claimed(wanted: &Wanted, judged: &Judged, claims: &Claims) -> Result<Vec<String>, PlanError> {
    let (layout, figures) = (&judged.layout, &judged.figures);
    let load = &wanted.file().load;
    let mut says = Vec::new();
    let factor = layout.replication_factor();
    let led = match layout.topology {
        Topology::MultiPrimary => 0,
        _ => u32::from(layout.shards),
    };
    // With one shard these are its replicas; with more, each shard has so many.
    let replicas = factor - u32::from(led > 0);
    if let Some(claim) = claims.reads_per_s_per_replica
        && replicas > 0
    {
        let each = load.reads_per_s / f64::from(replicas);
        if !agree(claim, each) {
            says.push(format!(
                "{} reads/s over {replicas} replicas are {} each, not {}",
                say::whole(load.reads_per_s),
                say::whole(each),
                say::whole(claim)
            ));
        }
    }
    if let Some(claim) = claims.reads_per_s_in_all {
        says.extend(reads_in_all(wanted, judged, claim, replicas));
    }
    if claims.primaries_per_region.is_some() || claims.replicas_per_region.is_some() {
        let primaries = claims.primaries_per_region.unwrap_or(0);
        let others = claims.replicas_per_region.unwrap_or(0);
        let held = (0..wanted.regions())
            .filter(|&r| layout.copies[r] > 0)
            .count();
        let regions = u32::try_from(held).unwrap_or(u32::MAX);
        let told = (primaries + others).saturating_mul(regions);
        let there = layout.servers_in_all();
        if told != there {
            says.push(format!(
                "{} and {} a region, in {regions} regions, are {told} servers; the layout has {there}",
                plural(primaries, "primary", "primaries"),
                plural(others, "replica", "replicas")
            ));
        }
    }
    if let Some(claim) = claims.replication_factor
        && claim != factor
    {
        says.push(format!(
            "the replication factor is {factor}, not {claim}: so many servers hold a copy of each shard"
        ));
    }
    if let Some(claim) = claims.storage_gb_in_all
        && !agree(claim * GB, figures.storage_bytes)
    {
        says.push(format!(
            "{} in {} are {}, not {}",
            say::bytes(wanted.data_bytes()),
            plural(factor, "copy", "copies"),
            say::bytes(figures.storage_bytes),
            say::bytes(claim * GB)
        ));
    }
    if let Some(claim) = claims.failures_tolerated {
        let of = claims.replication_factor.unwrap_or(factor);
        let (data, majority) = (of.saturating_sub(1), of.saturating_sub(1) / 2);
        if claim != majority {
            says.push(format!(
                "{of} copies tolerate {} for the data, but {} for a majority of them",
                plural(data, "failure", "failures"),
                if majority == 1 {
                    "one".into()
                } else {
                    majority.to_string()
                }
            ));
        }
    }
    for (name, claim) in &claims.write_ms {
        let region = number_of("claims.write_ms", name, wanted.region_names())?;
        if let Some(write) = figures.regions[region].write_ms
            && !agree(*claim, write.worst)
            && write.worst > *claim
        {
            says.push(format!(
                "a write from {name} takes {}, not {} ms",
                way(wanted, judged, region),
                say::short(*claim)
            ));
        }
    }
    says.extend(prices(wanted, judged, claims));
    says.extend(uptime(wanted, judged, claims));
    Ok(says)
}

/// "1 primary", "2 replicas".
fn plural(n: u32, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn reads_in_all(wanted: &Wanted, judged: &Judged, claim: f64, replicas: u32) -> Option<String> {
    let servers = judged.layout.servers.iter().flatten().next()?;
    let t = wanted.server_type(servers.server_type);
    let idle = t.reads_per_s * f64::from(replicas);
    let busy: f64 = judged
        .figures
        .regions
        .iter()
        .flat_map(|of| &of.servers)
        .map(|s| {
            let left = (1.0 - s.utilisation.writes).max(0.0);
            left * f64::from(s.count) * wanted.server_type(s.server_type).reads_per_s
        })
        .sum();
    if agree(claim, busy) {
        return None;
    }
    let from = match agree(claim, idle) {
        true => format!(
            "{replicas} × {} = {} reads/s only if no write is applied",
            say::whole(t.reads_per_s),
            say::whole(claim)
        ),
        false => format!(
            "{} reads/s are not what the servers can answer",
            say::whole(claim)
        ),
    };
    let writes = say::whole(wanted.file().load.writes_per_s);
    let room = match busy < 0.5 {
        true => "none".into(),
        false => say::whole(busy),
    };
    Some(format!(
        "{from}; beside the {writes} writes/s there is room for {room}"
    ))
}

/// How a write of a region's users goes: "200 ms there and back to us".
fn way(wanted: &Wanted, judged: &Judged, region: usize) -> String {
    let layout = &judged.layout;
    let far = layout.homes().map(|(home, _)| home).max_by(|&a, &b| {
        wanted
            .one_way_ms(region, a)
            .total_cmp(&wanted.one_way_ms(region, b))
    });
    let home = far.unwrap_or_else(|| latency::entry(wanted, layout, region));
    let commit = latency::commit_ms(wanted, layout, home).unwrap_or(f64::INFINITY);
    let mut text = format!(
        "{} ms to {} and back",
        say::short(wanted.round_trip_ms(region, home)),
        wanted.region(home)
    );
    if commit > 0.0 {
        text.push_str(&format!(
            " and {} ms until it is acknowledged there",
            say::short(commit)
        ));
    }
    text
}

fn prices(wanted: &Wanted, judged: &Judged, claims: &Claims) -> Vec<String> {
    let figures = &judged.figures;
    let mut terms: Vec<(usize, u32)> = Vec::new();
    for servers in judged.layout.servers.iter().flatten() {
        match terms.iter_mut().find(|(of, _)| *of == servers.server_type) {
            Some((_, count)) => *count += servers.count,
            None => terms.push((servers.server_type, servers.count)),
        }
    }
    let sum: Vec<String> = terms
        .iter()
        .map(|&(of, count)| {
            let price = wanted.server_type(of).price_per_month * 100.0;
            let price = say::money(price.round() as u64);
            if count == 1 {
                price
            } else {
                format!("{count} × {price}")
            }
        })
        .collect();
    let sum = format!("{} = {}", sum.join(" + "), say::money(figures.list_cents));
    let discount = say::percent(wanted.file().constraints.reserved_discount);
    let paid = say::money(figures.servers_cents);
    let mut says = Vec::new();
    for (claim, computed) in [
        (claims.price_per_month, figures.list_cents),
        (claims.price_per_month_reserved, figures.servers_cents),
    ] {
        if let Some(claim) = claim
            && !agree(claim * 100.0, computed as f64)
        {
            let claim = say::money((claim * 100.0).round() as u64);
            says.push(format!(
                "it costs {}, not {claim} a month",
                say::money(computed)
            ));
        }
    }
    let is_claimed = claims
        .price_per_month
        .or(claims.price_per_month_reserved)
        .is_some();
    if is_claimed && !judged.violations.is_empty() {
        let full = |v: &Violation| matches!(v, Violation::Utilisation { .. });
        let fault = match judged.violations.iter().any(full) {
            true => "does not carry the load",
            false => "does not keep what is promised",
        };
        says.push(format!(
            "{sum} a month, with {discount} off {paid}, is the price of a layout that {fault}"
        ));
    }
    says
}

/// The claimed time out of service, step by step, and the planner's own.
fn uptime(wanted: &Wanted, judged: &Judged, claims: &Claims) -> Vec<String> {
    let mut says = Vec::new();
    let own = &judged.figures.write_downtime;
    if let Some(minutes) = claims.downtime_minutes_per_year {
        let part = 1.0 - minutes / YEAR_MIN;
        let mut steps = format!(
            "{} min of a year's {} are {:.4} %, so {} are left",
            say::short(minutes),
            say::whole(YEAR_MIN),
            minutes / YEAR_MIN * 100.0,
            say::availability(part)
        );
        if let Some(claim) = claims.availability {
            let same = (claim - part).abs() < 5e-6;
            steps.push_str(&format!(
                ", {} claimed",
                if same { "as" } else { "not what is" }
            ));
        }
        says.push(format!("{steps}; where the minutes come from is not said"));
    }
    if claims.availability.is_some() || claims.downtime_minutes_per_year.is_some() {
        let a = &wanted.file().assumptions;
        let mut failures = 0.0;
        for (home, part) in judged.layout.homes() {
            failures += part * availability::failures_per_year(wanted, &judged.layout, home);
        }
        let mut computed = format!(
            "computed here for writes, as far as the servers carry them: a primary fails {} times a year",
            say::short(failures)
        );
        computed.push_str(&format!(
            " (repair {} h), its region {} times; each takes {} s to be noticed and {} s until another takes writes: {}; too few servers up: {}; regions gone: {}; together {}, {}",
            say::short(a.repair_hours),
            say::short(a.region_outages_per_year),
            say::short(a.detection_s),
            say::short(a.failover_s),
            say::minutes(own.moving_min),
            say::minutes(own.servers_min),
            say::minutes(own.regions_min),
            say::minutes(own.minutes()),
            say::availability(own.availability())
        ));
        says.push(computed);
    }
    says
}

fn notes(wanted: &Wanted, judged: &Judged) -> Vec<String> {
    let (layout, figures) = (&judged.layout, &judged.figures);
    let mut says = Vec::new();
    if let Err(why) = layout.runs() {
        says.push(why.to_string());
    }
    for (region, of) in figures.regions.iter().enumerate() {
        let name = wanted.region(region);
        let Some(write) = of.write_ms else { continue };
        let abroad = layout.topology != Topology::MultiPrimary
            && wanted.writes_from(region) > 0.0
            && layout.homes().all(|(home, _)| home != region);
        if abroad && !judged.violations.contains(&Violation::Write(region)) {
            says.push(format!(
                "a write from {name} takes {} ms, since {} has no primary: {}",
                say::short(write.worst),
                name,
                way(wanted, judged, region)
            ));
        }
        if let Reader::Copies(at) = of.reader
            && at != region
            && wanted.reads_from(region) > 0.0
        {
            says.push(format!(
                "{name} reads in {}: {} ms",
                wanted.region(at),
                say::short(of.read_ms)
            ));
        }
        let idle = reads_at(wanted, judged, region) == 0.0 && layout.copies[region] > 0;
        if idle && layout.primaries[region] == 0 && wanted.file().load.reads_per_s > 0.0 {
            says.push(format!("nobody reads from the copies in {name}"));
        }
    }
    let (one_down, max) = (figures.used_with_one_down, 1.0 + crate::load::SLACK);
    let fits = |v: &Violation| !matches!(v, Violation::Utilisation { .. });
    if one_down > max && judged.violations.iter().all(fits) {
        says.push(format!(
            "while one server is down, another gets its reads and would have to do up to {}; constraints.utilisation_max leaves room for that",
            say::percent(one_down)
        ));
    }
    if figures.writes_at_risk_per_year > 0.0 {
        says.push(format!(
            "some {} acknowledged writes a year are on one server alone when it fails (lag × rate × failures); Quire saves them to a file when it returns",
            say::whole(figures.writes_at_risk_per_year)
        ));
    }
    says
}
