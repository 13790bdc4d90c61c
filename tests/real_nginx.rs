//! The relay in front of Debian's `nginx`, driven by `wrk`, with bodies of 1 MiB.

#![cfg(unix)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[path = "support/real.rs"]
mod real;

const CLIENTS: u64 = 100;
const BODY: usize = 1 << 20;

#[test]
fn nginx_behind_the_relay() {
    let programs = [("nginx", "nginx-light"), ("wrk", "wrk")];
    let Some([server, wrk]) = real::programs("nginx_behind_the_relay", programs) else {
        return;
    };
    let scratch = real::Scratch::new("nginx");
    let body = body();
    fs::write(scratch.path().join("body"), &body).expect("a file of our own");
    let (_server, upstream) = real::start_server(|port| {
        let file = scratch.path().join("nginx.conf");
        fs::write(&file, configuration(scratch.path(), port)).expect("a file of our own");
        let mut command = Command::new(&server);
        // `-e`: otherwise it opens the log in /var before it reads where the log is.
        command.arg("-e").arg(scratch.path().join("error.log"));
        command
            .arg("-p")
            .arg(scratch.path())
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null());
        command
    });
    let relay = real::Relay::start(upstream, "256KiB");

    let answer = fetch(relay.address()).expect("an answer through the relay");
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let head = answer.len() - BODY;
    assert!(answer[..head].ends_with(b"\r\n\r\n"));
    assert!(
        answer[head..] == body,
        "the body is not what the server has"
    );

    let said = real::run(
        Command::new(&wrk)
            .args([
                "-c",
                &CLIENTS.to_string(),
                "-t",
                "2",
                "-d",
                "5s",
                "--timeout",
                "10s",
            ])
            .arg(format!("http://{}/body", relay.address())),
        Duration::from_secs(15),
    );
    assert!(said.contains("Requests/sec:"), "wrk: {said}");
    for trouble in ["Socket errors", "Non-2xx", "unable"] {
        assert!(!said.contains(trouble), "wrk: {said}");
    }

    let summary = relay.finish();
    summary.assert_sound();
    assert!(summary.number("connections") > CLIENTS);
    assert!(summary.number("bytes_down") > CLIENTS * BODY as u64);
}

/// Bytes that repeat neither at a page's nor at a buffer's distance.
fn body() -> Vec<u8> {
    (0..BODY as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

fn fetch(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /body HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Everything inside `root`, and one process, which is gone when it is killed.
fn configuration(root: &Path, port: u16) -> String {
    let root = root.display();
    format!(
        "daemon off;
        master_process off;
        pid {root}/nginx.pid;
        error_log {root}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            client_body_temp_path {root}/client;
            proxy_temp_path {root}/proxy;
            fastcgi_temp_path {root}/fastcgi;
            uwsgi_temp_path {root}/uwsgi;
            scgi_temp_path {root}/scgi;
            keepalive_requests 1000000;
            server {{
                listen 127.0.0.1:{port};
                root {root};
            }}
        }}"
    )
}
