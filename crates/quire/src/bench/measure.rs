//! One run: prepare, let every connection go its pace, add up.
//!
//! In: [`Settings`]. Out: a [`Report`], or why there could be none.

use super::{
    Report, Settings,
    checks::Tally,
    connection::Pace,
    prepare,
    recorder::Recorder,
    report::{self, Filled},
    schedule::Schedule,
};
use tokio::{
    task::{JoinSet, LocalSet},
    time::Instant,
};

/// Runs `settings` to their end.
pub(crate) async fn measure(settings: Settings) -> Result<Report, String> {
    LocalSet::new().run_until(measure_here(settings)).await
}

async fn measure_here(settings: Settings) -> Result<Report, String> {
    let prepared = prepare::prepare(&settings).await?;
    let start = Instant::now();
    let end_ns = settings.duration.as_nanos() as u64;
    let clients = prepared.connections.len();
    let mut running = JoinSet::new();
    for (n, connection) in prepared.connections.into_iter().enumerate() {
        let pace = match settings.rate {
            Some(rate) => {
                let rate = prepare::rate_of(&settings, rate, &prepared.parts, n);
                Pace::Open(Schedule::new(rate, n as f64 / clients as f64, end_ns))
            }
            None => Pace::Closed {
                in_flight: settings.pipeline,
                end_ns,
            },
        };
        running.spawn_local(async move { (n, connection.run(pace, start).await) });
    }
    let mut nodes: Vec<_> = settings
        .targets
        .iter()
        .map(|target| (target.clone(), Recorder::default()))
        .collect();
    let mut read_your_writes = Tally::default();
    let mut monotonic_reads = Tally::default();
    while let Some(ended) = running.join_next().await {
        let (n, connection) = ended.map_err(|e| e.to_string())?;
        let node = n % nodes.len();
        nodes[node].1.add(&connection.recorder);
        read_your_writes.add(connection.session.read_your_writes);
        monotonic_reads.add(connection.session.monotonic_reads);
    }
    let seconds = settings.duration.as_secs_f64();
    let rows = report::rows(&nodes, seconds);
    let count = rows.total.iter().map(|figures| figures.count).sum();
    Ok(Report {
        workload: settings.workload.name(),
        seconds,
        rate_asked: settings.rate,
        rate_achieved: report::per_second(count, seconds),
        clients,
        operations: rows.regions,
        errors: rows.errors,
        read_your_writes: read_your_writes.into(),
        monotonic_reads: monotonic_reads.into(),
        nodes: rows.nodes,
        total: rows.total,
        pipeline: settings.rate.is_none().then_some(settings.pipeline),
        keys: prepared.keys,
        value_bytes: settings.value_bytes,
        filled: Filled {
            keys: prepared.filled,
            seconds: (prepared.filled_in.as_secs_f64() * 1_000.0).round() / 1_000.0,
        },
    })
}
