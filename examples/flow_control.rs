//! HTTP/2-style flow control by a reference queue: the window opens when the application lets a buffer go, not when it was read.
//!
//! ```sh
//! cargo run --release --example flow_control
//! ```
//!
//! A sender may have so many bytes under way. A receiver reads each frame into a pooled buffer and hands it to a slow application,
//! which keeps slices of it for as long as it likes. Each buffer is registered with a reference queue and the bytes that it has;
//! when its last slice has gone, the token comes out of the queue, and the receiver gives the sender that much credit. So what the
//! application holds never exceeds the window, and nobody counts slices.

use std::collections::VecDeque;

use futures::StreamExt;
use offheap::{DirectBytes, Pool, ReferenceQueue};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

const WINDOW: usize = 256 << 10;
const FRAME: usize = 16 << 10;
const FRAMES: usize = 2_000;

/// Sends frames as long as the window is open; credits come as numbers of bytes.
async fn send(mut stream: DuplexStream) -> std::io::Result<()> {
    let mut window = WINDOW;
    for number in 0..FRAMES {
        while window < FRAME {
            window += stream.read_u32().await? as usize;
        }
        let frame = vec![number as u8; FRAME];
        stream.write_all(&frame).await?;
        window -= FRAME;
    }
    // Credit still comes until the receiver has read all.
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// Reads frames, passes them on, and turns buffers that were let go into credit.
async fn receive(
    mut stream: DuplexStream,
    pool: Pool,
    application: mpsc::UnboundedSender<DirectBytes>,
) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let (mut released, handle) = ReferenceQueue::new();
    let mut peak = 0;
    for _ in 0..FRAMES {
        let mut frame = pool.reserve(FRAME).await?;
        while frame.len() < FRAME {
            // Either there is something to read, or something to give back.
            tokio::select! {
                read = async {
                    let rest = FRAME - frame.len();
                    (&mut stream).take(rest as u64).read_buf(&mut frame).await
                } => if read? == 0 {
                    return Err("the sender went away".into());
                },
                Some(credit) = released.next() => stream.write_u32(credit).await?,
            }
        }
        frame.notify(&handle, FRAME as u32);
        application.send(frame.freeze())?;
        peak = peak.max(pool.stats().live);
    }
    Ok(peak)
}

/// Keeps slices of the last frames, and lets go of them out of order.
async fn consume(mut frames: mpsc::UnboundedReceiver<DirectBytes>) -> usize {
    let mut kept = VecDeque::new();
    let mut bytes = 0;
    while let Some(frame) = frames.recv().await {
        bytes += frame.len();
        kept.push_back((frame.slice(..100), frame.slice(FRAME - 100..)));
        drop(frame);
        if kept.len() > 8 {
            // The front half of one and the back half of another: a block goes with the last of its slices.
            kept.swap(0, 4);
            kept.pop_front();
        }
        tokio::task::yield_now().await;
    }
    bytes
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // More than the window: it is the window that keeps the sender back, not the pool.
    let pool = Pool::builder().name("frames").limit(4 << 20).build()?;
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (application, frames) = mpsc::unbounded_channel();
    let sender = tokio::spawn(send(theirs));
    let consumer = tokio::spawn(consume(frames));
    let peak = receive(ours, pool.clone(), application).await?;
    sender.await??;
    let bytes = consumer.await?;
    pool.closed().await;
    println!(
        "{FRAMES} frames, {bytes} bytes; at most {peak} bytes were held, with a window of {WINDOW} bytes"
    );
    // One more: the frame that is being read has no token yet.
    assert!(peak as usize <= WINDOW + FRAME);
    Ok(())
}
