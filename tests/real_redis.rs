//! The relay in front of Debian's `redis-server`, driven by `redis-benchmark`.

#![cfg(unix)]

use std::process::{Command, Stdio};
use std::time::Duration;

#[path = "support/real.rs"]
mod real;

const CLIENTS: u64 = 200;

#[test]
fn redis_behind_the_relay() {
    let programs = [
        ("redis-server", "redis-server"),
        ("redis-benchmark", "redis-tools"),
    ];
    let Some([server, benchmark]) = real::programs("redis_behind_the_relay", programs) else {
        return;
    };
    let scratch = real::Scratch::new("redis");
    let (_server, upstream) = real::start_server(|port| {
        let mut command = Command::new(&server);
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(scratch.path())
            .stdout(Stdio::null());
        command
    });
    let relay = real::Relay::start(upstream, "256KiB");

    let port = relay.address().port().to_string();
    let said = real::run(
        Command::new(&benchmark)
            .args(["-h", "127.0.0.1", "-p", &port, "-t", "set,get", "--csv"])
            .args([
                "-c",
                &CLIENTS.to_string(),
                "-P",
                "16",
                "-d",
                "16384",
                "-n",
                "20000",
            ]),
        Duration::from_secs(18),
    );
    assert!(
        !said.to_lowercase().contains("err"),
        "redis-benchmark: {said}"
    );
    for command in ["\"SET\"", "\"GET\""] {
        assert!(
            said.contains(command),
            "no {command} in what redis-benchmark said: {said}"
        );
    }

    let summary = relay.finish();
    summary.assert_sound();
    // Each of the two commands opens its own connections.
    assert!(summary.number("connections") >= 2 * CLIENTS);
    // A value in each of 20,000 requests and answers.
    assert!(summary.number("bytes_up") >= 20_000 * 16_384);
    assert!(summary.number("bytes_down") >= 20_000 * 16_384);
}
