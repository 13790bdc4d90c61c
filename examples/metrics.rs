//! Serves a pool's figures to Prometheus: `cargo run --example metrics`, then open http://127.0.0.1:9100/metrics.
//!
//! The recorder is `metrics-exporter-prometheus`, and each scrape publishes a snapshot of the pool before it is answered. A
//! few tasks reserve and hold buffers meanwhile, so that there is something to see.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::Router;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use offheap::{Pool, BATCH_BLOCKS_BUCKETS, WAIT_SECONDS_BUCKETS};
use tokio::net::TcpListener;

/// What Prometheus' text format calls itself.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = match std::env::args().nth(1) {
        Some(port) => port
            .parse()
            .map_err(|error| format!("{port:?} is no port: {error}"))?,
        None => 9100,
    };

    // First the recorder: waits are told to it once, and those before it would be lost.
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Full("offheap_reserve_wait_seconds".into()),
            &WAIT_SECONDS_BUCKETS,
        )?
        .set_buckets_for_metric(
            Matcher::Full("offheap_reclaim_batch_blocks".into()),
            &BATCH_BLOCKS_BUCKETS,
        )?
        .install_recorder()?;
    let pool = Pool::builder()
        .name("example")
        .limit(offheap::parse_bytes("1MiB")?)
        .publish_resident(true)
        .publish_classes(true)
        .build()?;
    for task in 1..=20 {
        tokio::spawn(work(pool.clone(), task));
    }

    let metrics = get(move || async move {
        pool.publish_metrics();
        ([(CONTENT_TYPE, TEXT)], recorder.render())
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/metrics", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/metrics", metrics)).await?;
    Ok(())
}

/// Takes a buffer, writes to it, and keeps it for a while.
async fn work(pool: Pool, task: u64) {
    let mut n = task;
    loop {
        n = (n * 7919 + task) % 100_000;
        let Ok(mut buffer) = pool.reserve(n as usize + 1).await else {
            return;
        };
        buffer.resize(n as usize, 0xff);
        tokio::time::sleep(Duration::from_millis(n % 100)).await;
    }
}
