//! As much of an HTTP client as the tests need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case, with what stands before the body.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

pub(crate) fn get(server: SocketAddr, path: &str) -> Answer {
    request(server, "GET", path, "")
}

pub(crate) fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    // Some servers keep the connection, whatever they are asked: the answer itself says where it ends.
    let mut answer = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        if let Some(answer) = parse(&answer, false) {
            return answer;
        }
        match stream.read(&mut part).expect("an answer") {
            0 => break,
            n => answer.extend(&part[..n]),
        }
    }
    parse(&answer, true)
        .unwrap_or_else(|| panic!("{method} {path}: {:?}", String::from_utf8_lossy(&answer)))
}

/// `None` where something is missing. `ended`: nothing more will come.
fn parse(answer: &[u8], ended: bool) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &answer[end + 4..];
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let body = if head.contains("transfer-encoding: chunked") {
        unchunked(rest)?
    } else if let Some(length) = length {
        rest.get(..length.trim().parse().ok()?)?.to_vec()
    } else {
        ended.then(|| rest.to_vec())?
    };
    Some(Answer {
        status,
        head,
        body: String::from_utf8(body).ok()?,
    })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 2 + size + 2..)?;
    }
}
