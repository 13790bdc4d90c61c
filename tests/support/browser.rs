//! Debian's Chromium, without a window, driven by its WebDriver.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{json, Value};

use crate::http;
use crate::real::{self, Process, Scratch};

/// A browser with one page.
pub(crate) struct Browser {
    driver: SocketAddr,
    session: String,
    _driver: Process,
    _profile: Scratch,
}

impl Browser {
    /// `None`: there is no browser, and the test has to be skipped.
    pub(crate) fn start(test: &str) -> Option<Browser> {
        let programs = [
            ("chromedriver", "chromium-driver"),
            ("chromium", "chromium"),
        ];
        let [driver, chromium] = real::programs(test, programs)?;
        let profile = Scratch::new(test);
        let (process, address) = real::start_server(|port| {
            let mut command = Command::new(&driver);
            command
                .arg(format!("--port={port}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        });
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--force-device-scale-factor=1",
            "--window-size=1280,900",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 60_000, "implicit": 60_000, "pageLoad": 60_000},
        }}});
        let answer = http::request(address, "POST", "/session", &wanted.to_string()).json();
        let session = answer["value"]["sessionId"].as_str();
        let session = session.unwrap_or_else(|| panic!("no browser: {answer}"));
        Some(Browser {
            driver: address,
            session: session.to_owned(),
            _driver: process,
            _profile: profile,
        })
    }

    fn command(&self, path: &str, body: Value) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        let mut answer = http::request(self.driver, "POST", &path, &body.to_string()).json();
        let value = answer["value"].take();
        assert!(value["error"].is_null(), "{path} {body}: {value}");
        value
    }

    pub(crate) fn open(&self, url: &str) {
        self.command("url", json!({ "url": url }));
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("execute/sync", json!({"script": script, "args": []}))
    }

    /// What a promise comes to.
    pub(crate) fn wait(&self, promise: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; Promise.resolve({promise}).then(done, error => done(String(error)))"
        );
        self.command("execute/async", json!({"script": script, "args": []}))
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.command("goog/cdp/execute", body)
    }

    /// Makes the page as wide as this, and light or dark.
    pub(crate) fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// The whole page as a PNG file.
    pub(crate) fn screenshot(&self, file: &Path) {
        let parameters = json!({"format": "png", "captureBeyondViewport": true});
        let shot = self.devtools("Page.captureScreenshot", parameters);
        let png = base64(shot["data"].as_str().expect("a screenshot"));
        assert!(png.starts_with(b"\x89PNG"));
        std::fs::write(file, png).expect("a file");
    }

    /// What the page had to complain of.
    pub(crate) fn complaints(&self) -> Vec<Value> {
        let log = self.command("se/log", json!({"type": "browser"}));
        log.as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let path = format!("/session/{}", self.session);
        // Ends the browser's processes, which killing the driver would leave.
        http::request(self.driver, "DELETE", &path, "");
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = text.bytes().filter_map(digit).map(u32::from).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let word = four
            .iter()
            .enumerate()
            .fold(0, |word, (place, digit)| word | digit << (18 - 6 * place));
        bytes.extend(word.to_be_bytes()[1..].iter().take(four.len() - 1));
    }
    bytes
}
