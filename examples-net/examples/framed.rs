//! A `tokio_util` codec whose frames are pooled: an echo of length-prefixed messages.
//!
//! `Framed` reads into a `BytesMut` of its own, and a `Decoder` can not wait. So the task waits for the memory of the next frame and hands
//! it to the codec before it reads; a frame that is larger than what it was handed is an error. The codec moves what has arrived of a
//! frame out of `Framed`'s buffer at once, so that no more than one read of each connection lies on the heap, however large the frames
//! are.
//!
//! An idle connection should hold nothing: the task first waits until the socket is readable, and only then for memory.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, BytesMut};
use futures::{SinkExt, StreamExt};
use offheap::{DirectBytes, DirectBytesMut, Pool};
use offheap_examples_net::{check, finish, pooled, Failure};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Encoder, Framed};

const MAX_FRAME: usize = 64 << 10;

/// Four bytes of length, most significant first, and so many bytes.
#[derive(Default)]
struct Codec {
    /// Memory for the next frame, or what has arrived of it.
    memory: Option<DirectBytesMut>,
    /// How many bytes of it are still to come, once that is known.
    missing: Option<usize>,
}

impl Decoder for Codec {
    type Item = DirectBytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<DirectBytes>> {
        let Some(memory) = &mut self.memory else {
            return Ok(None);
        };
        let missing = match self.missing {
            Some(missing) => missing,
            None => match src.try_get_u32() {
                Ok(length) if length as usize <= memory.remaining_mut() => length as usize,
                Ok(length) => return Err(too_long(length as usize)),
                Err(_) => return Ok(None),
            },
        };
        let arrived = missing.min(src.len());
        memory.put(src.split_to(arrived));
        self.missing = Some(missing - arrived);
        if missing > arrived {
            return Ok(None);
        }
        self.missing = None;
        Ok(self.memory.take().map(DirectBytesMut::freeze))
    }
}

impl Encoder<DirectBytes> for Codec {
    type Error = io::Error;

    fn encode(&mut self, frame: DirectBytes, dst: &mut BytesMut) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(|_| too_long(frame.len()))?;
        dst.reserve(4 + frame.len());
        dst.put_u32(length);
        dst.put(frame);
        Ok(())
    }
}

fn too_long(length: usize) -> io::Error {
    let text = format!("a frame of {length} bytes is above the largest possible");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The next frame, in the pool's memory.
async fn next(
    framed: &mut Framed<TcpStream, Codec>,
    pool: &Pool,
) -> Result<Option<DirectBytes>, Failure> {
    if framed.read_buffer().is_empty() {
        framed.get_ref().readable().await?;
    }
    framed.codec_mut().memory = Some(pool.reserve(MAX_FRAME).await?);
    let frame = framed.next().await.transpose()?;
    framed.codec_mut().memory = None;
    Ok(frame)
}

async fn echo(stream: TcpStream, pool: Pool) -> Result<(), Failure> {
    let mut framed = Framed::new(stream, Codec::default());
    while let Some(frame) = next(&mut framed, &pool).await? {
        framed.send(frame).await?;
    }
    Ok(())
}

async fn serve(listener: TcpListener, pool: Pool) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        let echo = echo(stream, pool.clone());
        tokio::spawn(async move {
            if let Err(error) = echo.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}

async fn call(address: SocketAddr, pool: Pool, client: u64) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let mut framed = Framed::new(stream, Codec::default());
    for round in 0..8 {
        let seed = client * 8 + round;
        let length = (seed as usize * 7919) % (MAX_FRAME + 1);
        framed.send(pooled(&pool, seed, length).await?).await?;
        let answer = next(&mut framed, &pool).await?;
        check(seed, length, answer.ok_or("the server hung up")?)?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pool = Pool::builder().name("server").limit(256 << 10).build()?;
    let frames = Pool::builder().name("clients").limit(512 << 10).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(serve(listener, pool.clone()));
    let clients: Vec<_> = (0..32)
        .map(|client| tokio::spawn(call(address, frames.clone(), client)))
        .collect();
    for client in clients {
        client.await??;
    }
    server.abort();
    finish(&frames).await?;
    finish(&pool).await
}

#[test]
fn runs() {
    main().unwrap();
}
