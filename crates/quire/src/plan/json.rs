//! What `quire plan --json` prints: names that stay (docs/planner.md). Pure.

use super::show;
use capacity::{
    Answer, Judged, LayoutFile, Wanted,
    availability::Downtime,
    check::{Checked, Kind},
    latency::Reader,
    say,
};
use serde_json::{Value, json};

pub(super) fn of_answer(wanted: &Wanted, answer: &Answer) -> Value {
    let layouts =
        |all: &[Judged]| -> Vec<Value> { all.iter().map(|j| layout(wanted, j)).collect() };
    match answer {
        Answer::Plan(plan) => {
            let others: Vec<Value> = (plan.others.iter())
                .map(|o| json!({"what": o.what, "why": o.why}))
                .collect();
            json!({
                "name": wanted.file().name,
                "feasible": true,
                "considered": plan.considered,
                "best": layouts(&plan.best),
                "others": others,
            })
        }
        Answer::Infeasible(why) => {
            let relax: Vec<Value> = (why.relaxations.iter())
                .map(|r| json!({"what": r.what, "layout": layout(wanted, &r.judged)}))
                .collect();
            json!({
                "name": wanted.file().name,
                "feasible": false,
                "considered": why.considered,
                "together": why.together,
                "relax": relax,
            })
        }
    }
}

pub(super) fn of_check(wanted: &Wanted, name: &str, checked: &Checked) -> Value {
    let findings: Vec<Value> = (checked.findings.iter())
        .map(|f| {
            let kind = match f.kind {
                Kind::Broken => "broken",
                Kind::Claim => "claim",
                Kind::Note => "note",
            };
            json!({"kind": kind, "says": f.says})
        })
        .collect();
    json!({
        "name": name,
        "sound": checked.is_sound(),
        "findings": findings,
        "layout": layout(wanted, &checked.judged),
    })
}

fn dollars(cents: u64) -> f64 {
    cents as f64 / 100.0
}

fn downtime(of: &Downtime) -> Value {
    json!({
        "availability": of.availability(),
        "down_min_per_year": of.minutes(),
        "down_min_per_year_by_cause": {
            "servers": of.servers_min,
            "regions": of.regions_min,
            "moving": of.moving_min,
        },
    })
}

fn layout(wanted: &Wanted, judged: &Judged) -> Value {
    let figures = &judged.figures;
    let file = LayoutFile::of(&judged.layout, wanted);
    let regions: Vec<Value> = (figures.regions.iter().enumerate())
        .map(|(region, of)| {
            let servers: Vec<Value> = (of.servers.iter())
                .map(|s| {
                    json!({
                        "server_type": wanted.server_type(s.server_type).name,
                        "count": s.count,
                        "utilisation": s.utilisation.both,
                        "utilisation_by_writes": s.utilisation.writes,
                        "utilisation_by_reads": s.utilisation.reads,
                    })
                })
                .collect();
            json!({
                "region": wanted.region(region),
                "copies": judged.layout.copies[region],
                "primaries": judged.layout.primaries[region],
                "servers": servers,
                "busiest_server": {
                    "copies": of.busiest.copies,
                    "writes_per_s": of.busiest.writes_per_s,
                    "reads_per_s": of.busiest.reads_per_s,
                    "storage_bytes": of.busiest.bytes,
                },
                "write_ms": of.write_ms.map(|w| w.worst),
                "write_mean_ms": of.write_ms.map(|w| w.mean),
                "read_ms": of.read_ms,
                "reads_from": match of.reader {
                    Reader::Copies(r) => wanted.region(r),
                    Reader::Primaries => "primaries",
                },
                "staleness_ms": of.staleness_ms,
                "own_write_wait_ms": of.own_write_wait_ms,
                "reads": downtime(&of.read_downtime),
            })
        })
        .collect();
    let broken = judged.violations.iter().map(|v| v.say(wanted, judged));
    json!({
        "title": show::title(wanted, judged),
        "topology": file.topology,
        "rule": file.rule,
        "shards": file.shards,
        "replication_factor": judged.layout.replication_factor(),
        "voters": file.voters,
        "servers": judged.layout.servers_in_all(),
        "runs": judged.layout.runs().is_ok(),
        "runs_not_because": judged.layout.runs().err(),
        "create": judged.layout.create_line(wanted),
        "price_per_month": {
            "all": dollars(figures.cents()),
            "servers_before_discount": dollars(figures.list_cents),
            "servers": dollars(figures.servers_cents),
            "network": dollars(figures.network_cents),
            "shown": say::money(figures.cents()),
        },
        "storage_bytes": figures.storage_bytes,
        "utilisation_with_one_down": figures.used_with_one_down,
        "network_bytes_per_s": figures.network_bytes_per_s,
        "survives": figures.survives,
        "writes_at_risk_per_year": figures.writes_at_risk_per_year,
        "writes": downtime(&figures.write_downtime),
        "regions": regions,
        "broken": broken.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{as_drawn, reference},
        *,
    };

    #[test]
    fn the_document_has_what_the_tables_have() {
        let wanted = reference();
        let document = of_answer(&wanted, &capacity::search(&wanted));
        let best = &document["best"][0];
        assert_eq!(best["price_per_month"]["all"], 1575.0);
        assert_eq!(best["regions"][2]["write_ms"], 401.0);
        assert_eq!(
            (&best["runs"], &best["survives"]),
            (&json!(true), &json!("nothing"))
        );
        let checked = of_check(&wanted, "as-drawn", &as_drawn());
        assert_eq!(checked["sound"], false);
        assert_eq!(checked["layout"]["replication_factor"], 7);
        assert_eq!(checked["findings"][0]["kind"], "broken");
    }
}
