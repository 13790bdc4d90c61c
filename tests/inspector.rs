//! The inspector: its JSON beside `stats()`, and its page in a real browser.

#![cfg(unix)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use offheap::{DirectBytes, DirectBytesMut, Inspector, Pool, ReserveOwned};
use serde_json::{json, Value};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use browser::Browser;
use by_hand::ByHand;

#[path = "support/browser.rs"]
mod browser;
#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/http.rs"]
mod http;
// Of this only how to find and start programs.
#[allow(dead_code)]
#[path = "support/real.rs"]
mod real;

const KIB: usize = 1 << 10;
/// A name that does harm wherever it is taken for markup or script.
const NASTY: &str =
    "in\"gress</script><img src=x onerror=\"window.harmed=1\">'`${window.harmed=1}\\";

/// A pool in a state that does not change by itself, with something of everything.
struct Scene {
    pool: Pool,
    held: Vec<DirectBytesMut>,
    /// Small parts of large blocks.
    slices: Vec<DirectBytes>,
    waiting: Vec<ByHand<ReserveOwned>>,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let pool = Pool::builder()
            .name(name)
            .limit(4 << 20)
            .shards(1)
            // The reclaimer takes no turns of its own: under pressure each would look again for something to clean.
            .decommit_after(Duration::from_secs(24 * 60 * 60))
            .build()
            .unwrap();
        // Waves, so that each class has live, queued and clean blocks in a pattern.
        let take = |n: usize, count: usize| -> Vec<_> {
            let take = |_| {
                let mut buffer = pool.try_reserve(n).unwrap();
                buffer.resize(n, 0x5a);
                buffer
            };
            (0..count).map(take).collect()
        };
        let mut held = Vec::new();
        let mut dropped = Vec::new();
        for (n, count) in [(400, 220), (3000, 90), (16 * KIB, 50), (40 * KIB, 12)] {
            let blocks = take(n, count);
            for (index, block) in blocks.into_iter().enumerate() {
                let side = if index % 7 < 2 || index > count * 4 / 5 {
                    &mut dropped
                } else {
                    &mut held
                };
                side.push(block);
            }
        }
        drop(dropped);
        pool.trim();
        let again = take(16 * KIB, 4);
        held.extend(take(3000, 3));
        held.extend(take(1 << 20, 1));
        drop(again);
        let small = |buffer: DirectBytesMut| buffer.freeze().slice(..100);
        let slices = take(16 * KIB, 3).into_iter().map(small).collect();
        let rest = pool.stats();
        let rest = (rest.limit - rest.live) as usize;
        held.extend(pool.try_reserve(rest * 3 / 4).ok());
        assert!(pool.try_reserve(2 << 20).is_err());
        assert!(pool.try_reserve(1 << 30).is_err());
        let waiting = [1 << 20, 16 * KIB, 16 * KIB, 300, 70_000].map(|n| {
            let mut waiting = ByHand::new(Box::pin(pool.reserve_owned(n)));
            assert!(waiting.poll().is_pending());
            waiting
        });
        Scene {
            pool,
            held,
            slices,
            waiting: waiting.into(),
        }
    }
}

/// Serves a router until the runtime is dropped.
fn serve(runtime: &Runtime, router: Router) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.expect("a free port");
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    address
}

/// Both what is shown and `stats()` are of one moment each, and the reclaimer may be at work between them: on its own
/// thread it cleans for whoever waits, also after the scene is set. So they have to agree soon, and not at once.
fn assert_same(pool: &Pool, mut shown: impl FnMut() -> Value) {
    // A number of tries and not a time, in which a busy machine may not come to a second one.
    for tries in 1.. {
        let (shown, said) = (shown(), as_shown(pool));
        if shown == said || tries == 30 {
            assert_eq!(shown, said);
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What `stats()` says, as the inspector names it.
fn as_shown(pool: &Pool) -> Value {
    let stats = pool.stats();
    json!({
        "limit": stats.limit,
        "committed": stats.committed,
        "live": stats.live,
        "requested": stats.requested,
        "queued": stats.queued,
        "stranded": stats.stranded,
        "metadata": stats.metadata,
        "peak_live": stats.peak_live,
        "buffers": stats.buffers,
        "waiting": stats.waiting,
        "waiting_bytes": stats.waiting_bytes,
        "reserved_total": stats.reserved_total,
        "reclaimed_total": stats.reclaimed_total,
        "parked_total": stats.parked_total,
        "cancelled_total": stats.cancelled_total,
        "helped_total": stats.helped_total,
        "cleaned_bytes_total": stats.cleaned_bytes_total,
        "handed_over_total": stats.handed_over_total,
    })
}

#[test]
fn the_data_is_what_stats_classes_and_holders_say() {
    let runtime = Runtime::new().unwrap();
    let scene = Scene::new(NASTY);
    let pool = &scene.pool;
    let router = Inspector::new([pool]).show_resident(true).router();
    let server = serve(&runtime, Router::new().nest("/a/b", router));

    let answer = http::get(server, "/a/b/pools.json");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"));
    let mut data = Value::Null;
    assert_same(pool, || {
        data = http::get(server, "/a/b/pools.json").json();
        data["pools"][0]["stats"].clone()
    });
    let said = &data["pools"][0];
    assert_eq!(said["name"], NASTY);
    assert_eq!(
        (&said["pressed"], &said["closed"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(said["rejected"]["too_large"], 1);
    assert_eq!(said["resident"], json!(pool.resident()));

    let classes = pool.classes();
    assert_eq!(said["classes"].as_array().unwrap().len(), classes.len());
    assert!(classes.iter().any(|class| class.clean > 0), "{classes:?}");
    assert!(classes.iter().any(|class| class.queued > 0), "{classes:?}");
    for (said, class) in said["classes"].as_array().unwrap().iter().zip(&classes) {
        assert_eq!(said["size"], class.size);
        assert_eq!(said["live"], class.live);
        assert_eq!(said["queued"], class.queued);
        assert_eq!(said["clean"], class.clean);
        // The map shows just these blocks.
        let sum = |key: &str| -> u64 {
            let cells = said[key].as_array().unwrap().iter();
            cells.map(|cell| cell.as_u64().unwrap()).sum()
        };
        assert_eq!(sum("live_cells"), class.live);
        assert_eq!(sum("queued_cells"), class.queued, "of {} bytes", class.size);
    }

    let holders = pool.holders();
    assert!(holders.len() >= 2);
    for (said, holder) in said["holders"].as_array().unwrap().iter().zip(&holders) {
        assert_eq!(said["site"], holder.location.to_string());
        assert_eq!(
            (&said["count"], &said["bytes"]),
            (&json!(holder.count), &json!(holder.bytes))
        );
        assert_eq!(said["pinned_waste"], holder.pinned_waste);
    }
    let wasted = holders.iter().map(|holder| holder.pinned_waste);
    assert_eq!(wasted.sum::<u64>(), 3 * 16 * KIB as u64);
    let waiters = said["waiters"].as_array().unwrap();
    let sizes: Vec<_> = waiters
        .iter()
        .map(|waiter| waiter["bytes"].clone())
        .collect();
    assert_eq!(
        sizes,
        [1 << 20, 16 * KIB, 16 * KIB, 300, 70_000],
        "in order"
    );
    assert!(waiters[0]["site"].as_str().unwrap().contains(file!()));
    assert_eq!(scene.waiting.len(), waiters.len());
}

#[test]
fn it_only_reads_and_does_not_keep_the_pool() {
    let runtime = Runtime::new().unwrap();
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let server = serve(&runtime, Inspector::new([&pool]).router());
    for path in ["/", "/pools.json"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(
                http::request(server, method, path, "").status,
                405,
                "{method} {path}"
            );
        }
    }
    let page = http::get(server, "/");
    assert!(page.head.contains("default-src 'none'"), "{}", page.head);
    assert!(!page.body.contains("%NONCE%"));
    // No address but this server's own; the one that looks like one is a name.
    let addresses = page.body.matches("http").count();
    assert_eq!(
        addresses,
        page.body.matches("http://www.w3.org/2000/svg").count()
    );
    assert_ne!(
        page.head,
        http::get(server, "/").head,
        "a nonce is used once"
    );

    let held = pool.try_reserve(1).unwrap();
    drop(pool);
    // What was said a moment ago may be said again.
    let end = Instant::now() + Duration::from_secs(60);
    while http::get(server, "/pools.json").json()["pools"] != json!([]) {
        assert!(Instant::now() < end, "the inspector keeps the pool");
        std::thread::yield_now();
    }
    drop(held);
}

#[test]
fn a_port_that_is_taken_is_an_error_that_says_so() {
    let runtime = Runtime::new().unwrap();
    let taken = runtime
        .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .unwrap();
    let address = taken.local_addr().unwrap();
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let served = runtime.block_on(Inspector::new([&pool]).serve(address.port()));
    let error = served.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// Resolves when the page has shown an answer that was asked for after this.
const SHOWN: &str = "new Promise(done => {
    const before = Number(document.body.dataset.answers ?? 0);
    new MutationObserver((_, observer) => {
        if (Number(document.body.dataset.answers) >= before + 2) { observer.disconnect(); done('shown'); }
    }).observe(document.body, { attributes: true });
})";

/// The figures on the page, by name.
const FIGURES: &str = "return Object.fromEntries([...document.querySelectorAll('[data-stat], [data-count]')]
    .map(element => [element.dataset.stat ?? element.dataset.count, Number(element.dataset.value)]))";

#[test]
fn the_page_in_a_real_browser() {
    let Some(browser) = Browser::start("the_page_in_a_real_browser") else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    let mut scene = Scene::new(NASTY);
    let other = Pool::builder()
        .name("other")
        .limit(1 << 20)
        .build()
        .unwrap();
    let inspector = {
        let _entered = runtime.enter();
        Inspector::new([&scene.pool, &other])
            .show_resident(true)
            .router()
    };
    let server = serve(&runtime, Router::new().nest("/memory", inspector));
    browser.open(&format!("http://{server}/memory"));
    let figures = || {
        assert_eq!(browser.wait(SHOWN), "shown");
        browser.run(FIGURES)
    };

    // What it says.
    assert_same(&scene.pool, figures);
    let stats = scene.pool.stats();
    let text = |selector: &str| {
        browser.run(&format!(
            "return document.querySelector('{selector}').innerText"
        ))
    };
    assert_eq!(text("[data-count=buffers]"), stats.buffers.to_string());
    assert_eq!(text("[data-stat=limit]"), "4 MiB");
    assert_eq!(
        text("#state"),
        format!("pressed: {} waiting", stats.waiting)
    );
    assert_eq!(text("[data-rejected=too_large]"), "1");
    let classes = browser.run(
        "return [...document.querySelectorAll('.class')].map(row =>
            [row.dataset.size, row.dataset.live, row.dataset.queued, row.dataset.clean].map(Number))",
    );
    let expected = scene.pool.classes();
    let expected = expected
        .iter()
        .map(|class| json!([class.size, class.live, class.queued, class.clean]));
    assert_eq!(classes, expected.collect::<Value>());
    let holders = browser.run(
        "return [...document.querySelectorAll('#holders tr')].map(row =>
            [row.querySelector('.site').textContent, Number(row.dataset.buffers), Number(row.dataset.bytes)])",
    );
    let expected = scene.pool.holders();
    let expected = expected
        .iter()
        .map(|holder| json!([holder.location.to_string(), holder.count, holder.bytes]));
    assert_eq!(holders, expected.collect::<Value>());
    let waiters = browser.run("return document.querySelectorAll('#waiters .row').length");
    assert_eq!(waiters, scene.waiting.len());

    // Names are text.
    assert_eq!(
        browser.run("return document.querySelector('h1').textContent"),
        NASTY
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('img').length"),
        0
    );
    assert_eq!(browser.run("return window.harmed ?? null"), Value::Null);
    // Nothing comes from elsewhere.
    let foreign = browser.run(
        "return performance.getEntriesByType('resource').map(entry => entry.name)
            .filter(name => !name.startsWith(location.origin + '/') && !name.startsWith('data:'))",
    );
    assert_eq!(foreign, json!([]));

    // How it looks. The pictures are for people, and stay with the build's output.
    let output = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (size, width, height) in [
        ("wide", 1280, 900),
        ("tablet", 820, 1100),
        ("phone", 390, 844),
    ] {
        for scheme in ["light", "dark"] {
            browser.look(width, height, scheme);
            assert_eq!(browser.wait(SHOWN), "shown");
            browser.screenshot(&output.join(format!("inspector-{size}-{scheme}.png")));
            let sideways = browser.run("return document.documentElement.scrollWidth - innerWidth");
            assert!(
                sideways.as_i64() <= Some(0),
                "{size}: {sideways} to scroll sideways"
            );
        }
    }

    // It follows what happens.
    assert!(!scene.waiting[4].take_woken());
    scene.waiting.clear();
    scene.held.truncate(3);
    scene.slices.clear();
    scene.pool.trim();
    assert_same(&scene.pool, figures);
    assert_eq!(text("#state"), "calm");

    // The other pool is a click away.
    browser.run("document.querySelectorAll('#pools button')[1].click()");
    assert_eq!(text("h1"), "other");
    assert_same(&other, figures);
    scene.pool.close();
    browser.run("document.querySelectorAll('#pools button')[0].click()");
    assert_eq!(browser.wait(SHOWN), "shown");
    assert_eq!(text("#state"), "closed");

    assert_eq!(browser.complaints(), [Value::Null; 0], "the page complains");
}
