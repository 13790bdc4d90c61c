//! The other side: senders and receivers on plain threads.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const CHUNK: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `bytes` through a relay to an upstream that throws them away; answers how long that took.
pub(crate) fn bulk(
    relay: SocketAddr,
    upstream: &TcpListener,
    bytes: usize,
) -> io::Result<Duration> {
    let mut client = TcpStream::connect(relay)?;
    let (mut server, _) = upstream.accept()?;
    // Whatever goes wrong, it does not last for ever.
    client.set_write_timeout(Some(PATIENCE))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let started = Instant::now();
    thread::scope(|threads| {
        let sending = threads.spawn(move || {
            let chunk = vec![7; CHUNK];
            let mut left = bytes;
            while left > 0 {
                let n = client.write(&chunk[..CHUNK.min(left)])?;
                left -= n;
            }
            client.shutdown(std::net::Shutdown::Write)?;
            // Until the relay is done with it.
            client.read(&mut [0])
        });
        let mut chunk = vec![0; CHUNK];
        let mut received = 0;
        loop {
            match server.read(&mut chunk)? {
                0 => break,
                n => received += n,
            }
        }
        let took = started.elapsed();
        drop(server);
        let sent = sending
            .join()
            .map_err(|_| io::Error::other("the sender panicked"))?;
        sent?;
        if received == bytes {
            Ok(took)
        } else {
            Err(io::Error::other(format!(
                "{received} bytes of {bytes} arrived"
            )))
        }
    })
}
