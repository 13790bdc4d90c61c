//! The relay under load, scraped by Debian's `prometheus`: what it stores is what the pool says, the dashboard's queries find
//! something, and an alert comes and goes.

#![cfg(unix)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "support/http.rs"]
mod http;
// The load is not that of the other tests, nor what holds for it.
#[allow(dead_code)]
#[path = "support/real.rs"]
mod real;

const CLIENTS: usize = 16;
/// How long anything may take to show, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Published figures, and their names in the inspector's data.
const FIGURES: [(&str, &str); 16] = [
    ("offheap_limit_bytes", "limit"),
    ("offheap_committed_bytes", "committed"),
    ("offheap_live_bytes", "live"),
    ("offheap_requested_bytes", "requested"),
    ("offheap_queued_bytes", "queued"),
    ("offheap_stranded_bytes", "stranded"),
    ("offheap_buffers", "buffers"),
    ("offheap_waiting", "waiting"),
    ("offheap_waiting_bytes", "waiting_bytes"),
    ("offheap_reserved_total", "reserved_total"),
    ("offheap_reclaimed_total", "reclaimed_total"),
    ("offheap_parked_total", "parked_total"),
    ("offheap_cancelled_total", "cancelled_total"),
    ("offheap_cleaned_bytes_total", "cleaned_bytes_total"),
    ("offheap_helped_total", "helped_total"),
    // Nobody's patience ended: whoever parked has waited and got its memory.
    ("offheap_reserve_wait_seconds_count", "parked_total"),
];

/// A server that takes all bytes while its gate is open, and none while it is closed.
struct Sink {
    address: SocketAddr,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Sink {
    fn start() -> Sink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().unwrap();
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let shared = gate.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let gate = shared.clone();
                thread::spawn(move || Sink::swallow(stream, &gate));
            }
        });
        Sink { address, gate }
    }

    fn swallow(mut stream: TcpStream, gate: &(Mutex<bool>, Condvar)) {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let open = gate.0.lock().unwrap();
            drop(gate.1.wait_while(open, |open| !*open).unwrap());
            if !matches!(stream.read(&mut bytes), Ok(n) if n > 0) {
                return;
            }
        }
    }

    fn set_open(&self, open: bool) {
        *self.gate.0.lock().unwrap() = open;
        self.gate.1.notify_all();
    }
}

/// Clients that send as much as they can.
struct Clients {
    stop: Arc<Mutex<bool>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(relay: SocketAddr) -> Clients {
        let stop = Arc::new(Mutex::new(false));
        let client = |_| {
            let stop = stop.clone();
            let mut stream = TcpStream::connect(relay).expect("the relay listens");
            thread::spawn(move || {
                let bytes = vec![7; 64 << 10];
                while !*stop.lock().unwrap() {
                    stream.write_all(&bytes).expect("the relay takes it");
                }
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Clients { stop, threads }
    }

    fn finish(self) {
        *self.stop.lock().unwrap() = true;
        for client in self.threads {
            client.join().expect("a client got through");
        }
    }
}

struct Prometheus {
    address: SocketAddr,
    _process: real::Process,
    _scratch: real::Scratch,
}

impl Prometheus {
    fn start(program: &Path, target: SocketAddr) -> Prometheus {
        let scratch = real::Scratch::new("prometheus");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("observability/offheap.rules.yml");
        let config = scratch.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs: [{{job_name: relay, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        fs::write(&config, text).expect("a configuration");
        let (process, address) = real::start_server(|port| {
            let mut command = Command::new(program);
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    scratch.path().join("data").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--log.level=error")
                .stdout(Stdio::null());
            command
        });
        let prometheus = Prometheus {
            address,
            _process: process,
            _scratch: scratch,
        };
        eventually("prometheus is ready", || {
            (http::get(address, "/-/ready").status == 200).then_some(())
        });
        prometheus
    }

    /// What a query finds.
    fn query(&self, query: &str) -> Vec<f64> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = http::get(self.address, &format!("/api/v1/query?query={escaped}")).json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a vector");
        result
            .iter()
            .map(|sample| {
                let value = sample["value"][1].as_str().expect("a value");
                value.parse().expect("a number")
            })
            .collect()
    }

    /// The one value that a query finds, if it finds one.
    fn value(&self, query: &str) -> Option<f64> {
        match self.query(query)[..] {
            [] => None,
            [value] => Some(value),
            ref several => panic!("{query}: {several:?}"),
        }
    }

    /// The state of an alert, and its summary.
    fn alert(&self, name: &str) -> Option<(String, String)> {
        let answer = http::get(self.address, "/api/v1/alerts").json();
        let alerts = answer["data"]["alerts"].as_array().expect("alerts").clone();
        let alert = alerts
            .into_iter()
            .find(|alert| alert["labels"]["alertname"] == name)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some((
            text(&alert["state"]),
            text(&alert["annotations"]["summary"]),
        ))
    }
}

/// Asks until there is an answer.
fn eventually<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(LOOK);
    }
}

/// The pool's figures, as the relay says.
fn stats(relay: SocketAddr) -> Value {
    http::get(relay, "/pools.json").json()["pools"][0]["stats"].take()
}

#[test]
fn prometheus_scrapes_the_relay_under_load() {
    let programs = [("prometheus", "prometheus"), ("promtool", "prometheus")];
    let Some([prometheus, promtool]) =
        real::programs("prometheus_scrapes_the_relay_under_load", programs)
    else {
        return;
    };
    let sink = Sink::start();
    let relay = real::Relay::start(sink.address, "64KiB");
    let inspect = relay.inspect();
    let prometheus = Prometheus::start(&prometheus, inspect);

    // Under load.
    let clients = Clients::start(relay.address());
    eventually("reservations park, and Prometheus knows it", || {
        prometheus
            .value("rate(offheap_parked_total[5s])")
            .filter(|&rate| rate > 0.0)
    });
    promtool_has_no_complaints(&promtool, inspect);
    let panels = panels();
    assert!(panels.len() > 20);
    for (title, query) in &panels {
        eventually(&format!("{title}: {query}"), || {
            (!prometheus.query(query).is_empty()).then_some(())
        });
    }
    clients.finish();

    // Every scrape was consistent.
    let worst = |query: &str| prometheus.value(&format!("max_over_time(({query})[10m:100ms])"));
    let books = "abs(offheap_committed_bytes - offheap_live_bytes - offheap_queued_bytes)";
    assert_eq!(worst(books), Some(0.0));
    assert_eq!(
        worst("offheap_committed_bytes > bool offheap_limit_bytes"),
        Some(0.0)
    );
    assert_eq!(
        worst("offheap_resident_bytes > bool offheap_limit_bytes"),
        Some(0.0)
    );
    assert_eq!(worst("offheap_live_bytes < bool 0"), Some(0.0));
    assert_eq!(worst("1 - up"), Some(0.0), "every scrape was answered");

    // At rest the numbers are the same, each and every one.
    eventually("a scrape while nothing moves", || {
        let before = stats(inspect);
        if before["live"] != 0 {
            return None;
        }
        let now = prometheus.value("vector(time())")?;
        eventually("another scrape", || {
            let scraped = prometheus.value("timestamp(offheap_live_bytes)")?;
            (scraped > now).then_some(())
        });
        let found = FIGURES.map(|(name, _)| prometheus.value(name));
        if stats(inspect) != before {
            return None;
        }
        let expected = FIGURES.map(|(_, key)| before[key].as_f64());
        assert_eq!(found, expected, "{FIGURES:?}");
        assert!(before["parked_total"].as_u64() > Some(0));
        Some(())
    });

    // Nobody takes the bytes: buffers stay where they are, and the others wait.
    const ALERT: &str = "OffheapWaitersParked";
    assert_eq!(prometheus.alert(ALERT), None);
    sink.set_open(false);
    let clients = Clients::start(relay.address());
    let summary = eventually("the alert fires", || {
        let (state, summary) = prometheus.alert(ALERT)?;
        (state == "firing").then_some(summary)
    });
    assert!(summary.contains("pool relay's queue"), "{summary}");
    assert!(prometheus.value("offheap_oldest_wait_seconds") > Some(10.0));
    sink.set_open(true);
    eventually("the alert is resolved", || {
        prometheus.alert(ALERT).is_none().then_some(())
    });
    clients.finish();

    eventually("all is back", || {
        (stats(inspect)["live"] == 0).then_some(())
    });
    let summary = relay.finish();
    assert_eq!(summary.text("verdict"), "PASS");
    assert!(summary.number("peak_live") <= summary.number("limit"));
}

#[test]
fn the_example_serves_its_figures() {
    let programs = [("promtool", "prometheus")];
    let Some([promtool]) = real::programs("the_example_serves_its_figures", programs) else {
        return;
    };
    let mut command = Command::new(real::example("metrics"));
    let mut example = real::Process::spawn(command.arg("0").stdout(Stdio::piped()));
    let line = example.first_line();
    let address = line
        .strip_prefix("listening on http://")
        .and_then(|rest| rest.split('/').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no address in {line:?}"));
    promtool_has_no_complaints(&promtool, address);
    let metrics = http::get(address, "/metrics").body;
    for name in [
        "offheap_committed_bytes",
        "offheap_class_live_blocks",
        "offheap_reserve_wait_seconds_bucket",
    ] {
        assert!(
            metrics.contains(&format!("{name}{{pool=\"example\"")),
            "{name} in {metrics}"
        );
    }
}

/// Names, units and help texts by Prometheus' conventions.
fn promtool_has_no_complaints(promtool: &Path, relay: SocketAddr) {
    let scratch = real::Scratch::new("promtool");
    let file = scratch.path().join("metrics");
    let metrics = http::get(relay, "/metrics");
    assert!(metrics
        .head
        .contains("content-type: text/plain; version=0.0.4"));
    fs::write(&file, metrics.body).expect("a file");
    let mut check = Command::new(promtool);
    check
        .args(["check", "metrics"])
        .stdin(fs::File::open(&file).expect("the file"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = check.output().expect("promtool runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// The queries of the dashboard, with the choices that a person would make.
fn panels() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("observability/grafana-dashboard.json");
    let text = fs::read_to_string(file).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            let title = panel["title"].as_str().unwrap_or_default().to_owned();
            targets.into_iter().map(move |target| {
                let query = target["expr"].as_str().expect("a query");
                let query = query
                    .replace("$__rate_interval", "5s")
                    .replace("$pool", "relay")
                    .replace("$instance", ".*");
                assert!(!query.contains('$'), "{query}");
                (title.clone(), query)
            })
        })
        .collect()
}
