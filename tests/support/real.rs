//! What the tests with real servers share: finding programs, starting servers, and the relay in front of them.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a server may take to answer, or a process to end, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the programs are that a test needs, each given with its Debian package. `None`: one is missing, and the test has
/// to be skipped; where `CI` is set that is a failure instead.
pub(crate) fn programs<const N: usize>(
    test: &str,
    needed: [(&str, &str); N],
) -> Option<[PathBuf; N]> {
    let found = needed.map(|(program, _)| find(program));
    let missing: Vec<_> = needed
        .iter()
        .zip(&found)
        .filter(|(_, path)| path.is_none())
        .map(|((program, package), _)| format!("{program} (apt-get install {package})"))
        .collect();
    if missing.is_empty() {
        return Some(found.map(Option::unwrap_or_default));
    }
    let missing = missing.join(", ");
    let ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(
        !ci,
        "{test} needs programs that are not installed: {missing}"
    );
    // Not by `eprintln!`, which the test harness keeps to itself when a test passes.
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: not installed: {missing}");
    None
}

/// Looks where Debian puts servers, too: not every user's path has it.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// A directory of the test's own, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(test: &str) -> Scratch {
        let path = env::temp_dir().join(format!("offheap-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Scratch(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let child = command.stdin(Stdio::null()).spawn();
        Process(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The first line that it says; its standard output must be a pipe.
    #[allow(dead_code)] // Not every test listens.
    pub(crate) fn first_line(&mut self) -> String {
        let stdout = self.0.stdout.take().expect("stdout is a pipe");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("a line");
        line
    }

    fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for the end.
    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            match self.0.try_wait() {
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server by the command that `command` makes for a free port, and waits until it accepts connections.
pub(crate) fn start_server(mut command: impl FnMut(u16) -> Command) -> (Process, SocketAddr) {
    // Someone else may take the port before the server does: then it ends, and the next port is tried.
    for _ in 0..5 {
        let address = free_address();
        let mut server = Process::spawn(&mut command(address.port()));
        let end = Instant::now() + PATIENCE;
        while server.is_running() {
            if TcpStream::connect(address).is_ok() && server.is_running() {
                return (server, address);
            }
            assert!(
                Instant::now() < end,
                "no answer: {:?}",
                command(address.port())
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("the server does not stay up: {:?}", command(0));
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on loopback")
}

/// Runs a program to its end, which must be a good one, and answers all that it said.
pub(crate) fn run(command: &mut Command, patience: Duration) -> String {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(command);
    let stdout = process.0.stdout.take().map(collect);
    let stderr = process.0.stderr.take().map(collect);
    let status = process.wait(patience);
    drop(process);
    let said: String = [stdout, stderr]
        .into_iter()
        .flatten()
        .filter_map(|reader| reader.join().ok())
        .collect();
    match status {
        Some(status) if status.success() => said,
        Some(status) => panic!("{command:?}: {status}\n{said}"),
        None => panic!("{command:?}: not done after {patience:?}\n{said}"),
    }
}

/// Reads to the end in the background, so that the process never waits for its reader.
fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = from.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// The example `relay` as a process in front of a server.
pub(crate) struct Relay {
    process: Process,
    address: SocketAddr,
    #[allow(dead_code)] // Not every test looks inside.
    inspect: SocketAddr,
    rest: JoinHandle<String>,
}

impl Relay {
    pub(crate) fn start(upstream: SocketAddr, limit: &str) -> Relay {
        let mut command = Command::new(example("relay"));
        command
            .args([
                "--listen",
                "127.0.0.1:0",
                "--seconds",
                "0",
                "--limit",
                limit,
            ])
            .args(["--upstream", &upstream.to_string(), "--inspect", "0"])
            .stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let stdout: ChildStdout = process.0.stdout.take().expect("stdout is a pipe");
        let mut stdout = BufReader::new(stdout);
        let mut address = |before: &str| {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line of the relay's");
            line.strip_prefix(before)
                .and_then(|rest| rest.split([',', '/']).next()?.parse().ok())
                .unwrap_or_else(|| panic!("no address in {line:?}"))
        };
        Relay {
            process,
            address: address("listening on "),
            inspect: address("inspect at http://"),
            rest: collect(stdout),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it shows its pool.
    #[allow(dead_code)] // As above.
    pub(crate) fn inspect(&self) -> SocketAddr {
        self.inspect
    }

    /// Ends the relay as Ctrl-C does, and answers what its summary says.
    pub(crate) fn finish(mut self) -> Summary {
        let interrupt = format!("kill -INT {}", self.process.0.id());
        run(Command::new("sh").args(["-c", &interrupt]), PATIENCE);
        let status = self.process.wait(PATIENCE);
        drop(self.process);
        let said = self.rest.join().unwrap_or_default();
        assert!(
            status.is_some_and(|status| status.success()),
            "relay: {status:?}\n{said}"
        );
        let _ = writeln!(io::stderr(), "{said}");
        Summary::parse(&said)
    }
}

/// The figures of a relay's last line.
pub(crate) struct Summary(HashMap<String, String>);

impl Summary {
    fn parse(said: &str) -> Summary {
        let line = said.lines().find_map(|line| line.strip_prefix("summary: "));
        let line = line.unwrap_or_else(|| panic!("no summary in {said:?}"));
        let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        Summary(
            pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.0
            .get(key)
            .unwrap_or_else(|| panic!("no {key} in {:?}", self.0))
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        let text = self.text(key);
        text.parse()
            .unwrap_or_else(|_| panic!("{key}={text} is no number"))
    }

    /// What holds for every relay in front of every server.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.text("verdict"), "PASS");
        assert!(
            self.number("parked_total") > 0,
            "no reservation parked: {:?}",
            self.0
        );
        assert_eq!(
            self.number("stalled"),
            0,
            "connections without progress: {:?}",
            self.0
        );
        assert!(
            self.number("peak_live") <= self.number("limit"),
            "{:?}",
            self.0
        );
        if cfg!(target_os = "linux") {
            let allowed = self.number("limit") + self.number("metadata");
            assert!(self.number("peak_resident") <= allowed, "{:?}", self.0);
        }
    }
}

/// The program of an example, which cargo puts beside the directory of the tests' programs.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps/<test>");
    let program = profile
        .join("examples")
        .join(name)
        .with_extension(env::consts::EXE_EXTENSION);
    assert!(
        program.is_file(),
        "{} is missing: plain `cargo test` builds it, `cargo test --test ..` needs `cargo build --examples` first",
        program.display()
    );
    program
}
