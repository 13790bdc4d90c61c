//! What only Linux has: bytes that never enter this process, and files without the page cache.

mod direct;
mod mapped;
mod pipe;
mod send;
mod socket;
mod splice;
mod udp;

pub use direct::DirectFile;
pub use mapped::{MappedBytes, MappedFile, SendMapped};
pub use send::{send_file, splice_file, SendFile};
pub use socket::Socket;
pub use splice::{splice, splice_bidirectional, Splice, SpliceBidirectional};
pub use udp::{enable_gro, recv_many, send_many, Datagram};
