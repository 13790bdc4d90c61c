//! The inspector: a page that shows what pools do, live.
//!
//! It is an axum router with two routes: the page, which is one file that needs nothing else, and the JSON that the page asks
//! for each second. Both only read. Figures that need a look at every block are made when someone asks, away from the
//! runtime's threads and at most a few times a second however many ask; a task samples the rest for the page's history.

mod history;
mod json;
mod report;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{HeaderName, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::Router;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use self::history::{History, Sample, EVERY};
use self::json::Json;
use super::resident;
use crate::pool::{Inner, Pool};

const PAGE: &str = include_str!("page.html");
/// Where the page has the number that lets its own script and style through.
const NONCE: &str = "%NONCE%";

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// An answer younger than this is given again.
const FRESH: Duration = Duration::from_millis(200);

/// Shows pools in a browser: who holds what, who waits, and how the budget went over the last ten minutes.
///
/// The page is read-only, works offline, and refreshes itself. It does not keep a pool alive. It shows source
/// locations and sizes to whoever can reach it, and asks for no password: mount it where only operators get to.
///
/// # Examples
///
/// As part of a server:
///
/// ```
/// use axum::Router;
/// use offheap::{Inspector, Pool};
///
/// let pool = Pool::builder().name("ingress").limit(1 << 20).build()?;
/// let app: Router = Router::new().nest("/memory", Inspector::new([&pool]).router());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// By itself, at `http://127.0.0.1:9100/`:
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// # let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// tokio::spawn(offheap::Inspector::new([&pool]).serve(9100));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "an inspector shows nothing until its router is mounted or it serves"]
pub struct Inspector {
    pools: Vec<Weak<Inner>>,
    resident: bool,
}

impl Inspector {
    /// An inspector of these pools.
    pub fn new<'a>(pools: impl IntoIterator<Item = &'a Pool>) -> Self {
        Inspector {
            pools: pools.into_iter().map(Pool::downgrade).collect(),
            resident: false,
        }
    }

    /// Whether to ask the kernel each second [how much is resident](Pool::resident), and show it beside the books. Default: no,
    /// for it takes some milliseconds per GiB.
    pub fn show_resident(mut self, yes: bool) -> Self {
        self.resident = yes;
        self
    }

    /// The page at `/` and its data at `/pools.json`, to be mounted anywhere.
    ///
    /// The history of the budget begins now, or, outside a tokio runtime, with the first request.
    pub fn router(self) -> Router {
        let watched = self.pools.into_iter().map(|pool| Watched {
            pool,
            history: Mutex::default(),
        });
        let desk = Arc::new(Desk {
            pools: watched.collect(),
            resident: self.resident,
            sampler: OnceLock::new(),
            latest: Mutex::new(None),
        });
        desk.start_sampling();
        Router::new()
            .route("/", get(page))
            .route("/pools.json", get(data))
            .with_state(desk)
    }

    /// Serves the page at this port of loopback, and of nothing else, for as long as the future lives.
    ///
    /// # Errors
    ///
    /// Where the port can not be had.
    pub async fn serve(self, port: u16) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("inspector at {address}: {error}"))
        })?;
        axum::serve(listener, self.router()).await
    }
}

/// What all requests share.
#[derive(Debug)]
struct Desk {
    pools: Vec<Watched>,
    resident: bool,
    /// Set once the sampler runs.
    sampler: OnceLock<()>,
    latest: Mutex<Option<(Instant, Bytes)>>,
}

/// A pool, and what it did so far.
#[derive(Debug)]
struct Watched {
    pool: Weak<Inner>,
    history: Mutex<History>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Starts the sampler, if there is a runtime and it does not run yet. It ends with the router.
    fn start_sampling(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.sampler.set(()).is_ok() {
            drop(runtime.spawn(sample(Arc::downgrade(self))));
        }
    }

    fn sample(&self) {
        for watched in &self.pools {
            if let Some(pool) = watched.pool.upgrade() {
                let sample = Sample::of(pool.engine(), self.resident_of(&pool));
                lock(&watched.history).push(sample);
            }
        }
    }

    fn resident_of(&self, pool: &Inner) -> Option<u64> {
        self.resident.then(|| resident(pool.engine())).flatten()
    }

    /// O(blocks), unless there is a fresh one. One at a time.
    fn report(&self) -> Bytes {
        let mut latest = lock(&self.latest);
        if let Some((when, report)) = &*latest {
            if when.elapsed() < FRESH {
                return report.clone();
            }
        }
        let report = Bytes::from(Json::object(|o| {
            o.number("sample_ms", EVERY.as_millis() as u64);
            let pools = self
                .pools
                .iter()
                .filter_map(|watched| Some((watched, watched.pool.upgrade()?)));
            o.objects("pools", pools, |o, (watched, pool)| {
                let resident = self.resident_of(&pool);
                report::write(o, &pool, &lock(&watched.history), resident);
            });
        }));
        *latest = Some((Instant::now(), report.clone()));
        report
    }
}

/// Samples each second, until the router is gone.
async fn sample(desk: Weak<Desk>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(desk) = desk.upgrade() else {
            return;
        };
        // Asking the kernel may take a while.
        if tokio::task::spawn_blocking(move || desk.sample())
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn page() -> Response {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    let headers = [
        (HeaderName::from_static("content-security-policy"), policy),
        (
            HeaderName::from_static("referrer-policy"),
            "no-referrer".into(),
        ),
    ];
    (headers, reply(HTML, PAGE.replace(NONCE, &nonce))).into_response()
}

async fn data(State(desk): State<Arc<Desk>>) -> Response {
    desk.start_sampling();
    match tokio::task::spawn_blocking(move || desk.report()).await {
        Ok(report) => reply(JSON, report),
        // The runtime is going away.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn reply(kind: &'static str, body: impl Into<Body>) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    (headers, body.into()).into_response()
}

/// A number that no one can guess: std seeds its hash maps from the operating system's randomness.
fn nonce() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}
