//! Shows the pool while the relay runs: a page for people, and `/metrics` for Prometheus.

use std::io;
use std::net::Ipv4Addr;

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use offheap::{Inspector, Pool, BATCH_BLOCKS_BUCKETS, WAIT_SECONDS_BUCKETS};
use tokio::net::TcpListener;

/// What Prometheus' text format calls itself.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A listener, and the recorder that the pool's figures go to.
pub(crate) struct Inspect {
    listener: TcpListener,
    recorder: PrometheusHandle,
}

impl Inspect {
    /// Listens at `[HOST:]PORT`, on loopback where no host is given.
    pub(crate) async fn bind(address: &str) -> io::Result<Inspect> {
        let bound = match address.parse::<u16>() {
            Ok(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await,
            Err(_) => TcpListener::bind(address).await,
        };
        Ok(Inspect {
            listener: bound.map_err(|error| crate::named("--inspect", address, error))?,
            recorder: recorder().map_err(io::Error::other)?,
        })
    }

    /// Serves for ever.
    pub(crate) async fn serve(self, pool: &Pool) -> io::Result<()> {
        println!("inspect at http://{}/", self.listener.local_addr()?);
        let Inspect { listener, recorder } = self;
        let scraped = pool.clone();
        let metrics = get(move || async move {
            scraped.publish_metrics();
            ([(CONTENT_TYPE, TEXT)], recorder.render())
        });
        let router = Inspector::new([pool]).show_resident(true).router();
        axum::serve(listener, router.route("/metrics", metrics)).await
    }
}

fn recorder() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    let waits = Matcher::Full("offheap_reserve_wait_seconds".into());
    let batches = Matcher::Full("offheap_reclaim_batch_blocks".into());
    PrometheusBuilder::new()
        .set_buckets_for_metric(waits, &WAIT_SECONDS_BUCKETS)?
        .set_buckets_for_metric(batches, &BATCH_BLOCKS_BUCKETS)?
        .install_recorder()
}
