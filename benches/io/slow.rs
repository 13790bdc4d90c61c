//! A thousand connections whose peers do not read, beside one that does.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use offheap_benches::figures::{interleave, times, Ratio, Runner, Table};
use rustix::net::sockopt;

use crate::load;
use crate::process::{collect, Server};
use crate::Options;

const LIMIT: usize = 64 << 20;
/// Sent to each peer that does not read: more than the kernel takes on the way.
const STUCK: usize = 2 << 20;
/// What the kernel may keep at either end of a connection that is stuck. A thousand times more than this, and all of the
/// machine's connections would suffer from the kernel's own limit (`tcp_mem`).
const AT_THE_ENDS: usize = 32 << 10;
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &Options) -> io::Result<()> {
    let (rounds, bytes, slow) = options.pick((7, 512 << 20, 1000), (1, 64 << 20, 20));
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let mut beside = Server::start("offheap-tight", Some(&upstream), Some(LIMIT))?;
    let alone = Server::start("offheap-tight", Some(&upstream), Some(LIMIT))?;
    let mut stuck = Vec::new();
    for _ in 0..slow {
        let (ends, sent) = connect(&beside, &upstream)?;
        if sent >= STUCK {
            return Err(io::Error::other(
                "a peer that does not read was sent everything",
            ));
        }
        stuck.push(ends);
    }
    std::thread::sleep(SETTLE);
    let held = beside.figures()?;

    let throughput = |server: &Server| -> io::Result<f64> {
        let took = load::bulk(server.address, &upstream, bytes)?;
        Ok(bytes as f64 / 1e9 / took.as_secs_f64())
    };
    let mut runners: Vec<Runner<'_, io::Result<f64>>> = vec![
        Runner {
            name: "beside them",
            run: Box::new(|| throughput(&beside)),
        },
        Runner {
            name: "alone",
            run: Box::new(|| throughput(&alone)),
        },
    ];
    let series = collect(interleave(rounds, &mut runners))?;
    drop(runners);
    let mut table = Table::new(&["a fast connection", "GB/s", "beside / alone"]);
    for of in &series {
        let ratio = Ratio::of(&series[0].figures(|&gb| gb), &of.figures(|&gb| gb));
        table.row([
            of.name.to_string(),
            format!("{:.2}", of.median(|&gb| gb)),
            times(ratio.median),
        ]);
    }
    table.print(&format!("{slow} connections whose peers do not read"));
    let after = beside.figures()?;
    println!(
        "They hold {} bytes of the pool, {:.0} each; at most {} bytes were live, of a limit of {}.",
        held.live,
        held.live as f64 / slow as f64,
        after.peak_live,
        after.limit
    );
    Ok(())
}

/// A client that does not read, an upstream that has sent all that goes, and how many bytes that were.
fn connect(server: &Server, upstream: &TcpListener) -> io::Result<((TcpStream, TcpStream), usize)> {
    let client = TcpStream::connect(server.address)?;
    let (mut sender, _) = upstream.accept()?;
    sockopt::set_socket_recv_buffer_size(&client, AT_THE_ENDS)?;
    sockopt::set_socket_send_buffer_size(&sender, AT_THE_ENDS)?;
    sender.set_nonblocking(true)?;
    let chunk = vec![7; 256 << 10];
    let mut sent = 0;
    let mut patience = 20;
    while sent < STUCK && patience > 0 {
        match sender.write(&chunk) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                patience -= 1;
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(((client, sender), sent))
}
