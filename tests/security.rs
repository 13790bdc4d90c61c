//! What SECURITY.md promises and no other test shows: nothing of one tenant is left for the next by any way that a block can go, peers that
//! do not read take the pool from nobody, arguments out of range do no harm in any public method, and numbers above 4 GiB are right.

#[path = "support/net.rs"]
mod net;
#[path = "support/panics.rs"]
mod panics;
#[path = "support/starved.rs"]
mod starved;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::executor::block_on;
use futures::FutureExt;
use offheap::{
    DirectBytes, DirectBytesMut, DirectRope, PollReserve, Pool, ReserveError, SoftCache,
    TryReserveError, Zero,
};

use panics::attempt;
use starved::starved;
use watchdog::within;

const PAGE: usize = 4096;
const MAX: usize = usize::MAX;

// ---- information left in recycled memory ----------------------------------------------------------------------------

const SECRET: u8 = 0xA5;

fn secret(mut buffer: DirectBytesMut) -> DirectBytesMut {
    buffer.put_bytes(SECRET, buffer.capacity() - buffer.len());
    buffer
}

/// One tenant writes to all memory there is and lets go of it in every way that there is; the other looks at every byte of every block.
#[test]
fn no_byte_of_a_tenant_is_left() {
    const LIMIT: usize = 64 << 10;
    for starve in [false, true] {
        within(120, move || {
            let builder = Pool::builder().limit(LIMIT).zero(Zero::OnReclaim);
            let (pool, _runtime) = if starve {
                let (pool, runtime) = starved(builder);
                (pool, Some(runtime))
            } else {
                (builder.build().unwrap(), None)
            };
            for n in [256, 1000, 3000, PAGE, 5 * PAGE, LIMIT / 4, LIMIT] {
                for way in 0..WAYS {
                    let full: Vec<_> = all(&pool, n).into_iter().map(secret).collect();
                    full.into_iter()
                        .for_each(|buffer| let_go(&pool, buffer, way));
                    // Whoever waits runs the hooks that are left. What it drops then has to be wiped once more, and `look` sees to that.
                    drop(block_on(pool.reserve(LIMIT)).unwrap());
                    look(&pool, n);
                }
            }
        });
    }
}

const WAYS: usize = 9;

fn let_go(pool: &Pool, mut buffer: DirectBytesMut, way: usize) {
    match way {
        0 => drop(buffer),
        1 => drop(buffer.freeze()),
        2 => {
            // The last part goes on another thread.
            let rest = buffer.split_off(buffer.capacity() / 2);
            drop(buffer);
            std::thread::spawn(move || drop(rest)).join().unwrap();
        }
        3 => drop(Bytes::from(buffer.freeze()).slice(1..)),
        4 => {
            let _ = buffer.freeze().clean();
        }
        5 => buffer.on_clean(|memory| memory.fill(SECRET)),
        6 => {
            let cache = SoftCache::new(pool);
            cache.insert(1, buffer.freeze());
            // Evicted where there is no room otherwise, and dropped with the cache where there is.
            drop(pool.reserve(pool.max_reserve()).now_or_never());
        }
        7 => {
            let weak = buffer.freeze().downgrade();
            assert!(weak.upgrade().is_none());
        }
        _ => {
            // Given up after the grant: the same block goes on unseen.
            let mut wait = PollReserve::new(pool.clone());
            let waker = futures::task::noop_waker();
            let mut cx = std::task::Context::from_waker(&waker);
            let all: Vec<_> = std::iter::from_fn(|| pool.try_reserve(PAGE).ok()).collect();
            let pending = wait.poll_reserve(&mut cx, PAGE).is_pending();
            drop((all, buffer));
            wait.cancel();
            let _ = pending;
        }
    }
}

/// Reserves all that there is, in blocks for `n` bytes. The first one waits: the reclaimer may have the last block in hand.
fn all(pool: &Pool, n: usize) -> Vec<DirectBytesMut> {
    let mut held = vec![block_on(pool.reserve(n)).unwrap()];
    loop {
        match pool.try_reserve(n) {
            Ok(buffer) => held.push(buffer),
            Err(TryReserveError::Exhausted { .. }) => return held,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Reserves all that there is, and looks at each byte.
fn look(pool: &Pool, n: usize) {
    for mut buffer in all(pool, n) {
        let capacity = buffer.capacity();
        // SAFETY: the pool's memory comes zeroed, so each byte has a value; the test wants to see others' bytes.
        unsafe { buffer.set_len(capacity) };
        let dirty = buffer.iter().position(|byte| *byte != 0);
        assert_eq!(dirty, None, "{n} bytes: another's secret");
    }
}

// ---- hostile peers --------------------------------------------------------------------------------------------------

/// Sixty-four peers that send all they can and read nothing, behind relays of one small pool; honest ones get every byte meanwhile.
#[cfg(all(unix, feature = "io"))]
#[test]
fn peers_that_do_not_read_take_the_pool_from_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn relay(pool: &Pool) -> (TcpStream, TcpStream) {
        let (client, mut a) = net::tight_tcp_pair(16 << 10).await.unwrap();
        let (mut b, server) = net::tight_tcp_pair(16 << 10).await.unwrap();
        let pool = pool.clone();
        tokio::spawn(async move { offheap::io::copy_bidirectional(&mut a, &mut b, &pool).await });
        (client, server)
    }

    async fn echo(stream: TcpStream) {
        let (mut read, mut write) = stream.into_split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }

    within(120, || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            const LIMIT: usize = 1 << 20;
            let pool = Pool::builder().limit(LIMIT).build().unwrap();
            for _ in 0..64 {
                let (client, server) = relay(&pool).await;
                tokio::spawn(echo(server));
                tokio::spawn(async move {
                    let (_never_read, mut write) = client.into_split();
                    let chunk = vec![7; 64 << 10];
                    while write.write_all(&chunk).await.is_ok() {}
                });
            }
            // They are stuck by then: all that the kernel takes is full.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut honest = Vec::new();
            for peer in 0..4 {
                let (client, server) = relay(&pool).await;
                tokio::spawn(echo(server));
                honest.push(tokio::spawn(async move {
                    let sent = net::bytes(peer * 1000, 1 << 20);
                    let expected = sent.clone();
                    let (mut read, mut write) = client.into_split();
                    let sending = tokio::spawn(async move {
                        write.write_all(&sent).await.unwrap();
                        write
                    });
                    let mut received = vec![0; expected.len()];
                    read.read_exact(&mut received).await.unwrap();
                    assert!(received == expected);
                    sending.await.unwrap();
                }));
            }
            for peer in honest {
                peer.await.unwrap();
            }
            let stats = pool.stats();
            assert!(stats.live < LIMIT as u64 / 2, "they hold it: {stats:?}");
        });
    });
}

// ---- arguments out of range -----------------------------------------------------------------------------------------

const EXTREMES: [usize; 6] = [MAX, MAX - 1, MAX / 2 + 1, MAX / 2, 1 << 40, (1 << 20) + 1];

/// Two buffers side by side in one block, of which the first is handed to each test: what the other shows must not change.
fn halves(pool: &Pool) -> (DirectBytesMut, DirectBytesMut) {
    let mut front = pool.try_reserve(256).unwrap();
    let mut back = front.split_off(128);
    front.put_bytes(b'f', 64);
    back.put_bytes(b'b', 128);
    (front, back)
}

#[test]
fn writable_buffers_take_any_argument() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    type Call = (&'static str, fn(&mut DirectBytesMut, usize));
    let panics: &[Call] = &[
        ("advance", |b, n| b.advance(n)),
        ("Buf::advance", |b, n| Buf::advance(b, n)),
        ("resize", |b, n| b.resize(n, 1)),
        ("split_to", |b, n| drop(b.split_to(n))),
        ("split_off", |b, n| drop(b.split_off(n))),
        ("extend_from_within", |b, n| b.extend_from_within(..n)),
        ("extend_from_within from", |b, n| b.extend_from_within(n..)),
        ("extend_from_within inclusive", |b, n| {
            b.extend_from_within(0..=n)
        }),
        ("put_bytes", |b, n| b.put_bytes(1, n)),
        ("copy_to_bytes", |b, n| drop(b.copy_to_bytes(n))),
        ("put_uint", |b, n| b.put_uint(1, n)),
        ("put_int", |b, n| b.put_int(1, n)),
        ("get_uint", |b, n| _ = b.get_uint(n)),
        ("get_int", |b, n| _ = b.get_int(n)),
        ("index", |b, n| _ = b[n]),
        ("take", |b, n| {
            b.put(Buf::take(&[1; 4][..], n).chain(Buf::chunk(&&[2; 200][..])))
        }),
    ];
    for (what, call) in panics {
        for n in EXTREMES {
            let (mut front, back) = halves(&pool);
            assert!(
                attempt(|| call(&mut front, n)).is_none(),
                "{what}({n}) is accepted"
            );
            assert!(
                front.len() <= 128 && front.iter().all(|b| *b != b'b'),
                "{what}({n})"
            );
            assert!(
                back.len() == 128 && back.iter().all(|b| *b == b'b'),
                "{what}({n})"
            );
        }
    }
    for n in EXTREMES {
        let (mut front, back) = halves(&pool);
        assert_eq!(front.try_put_bytes(1, n).unwrap_err().requested, n);
        assert!(!front.try_reclaim(n));
        assert!(matches!(
            front.try_grow(n),
            Err(TryReserveError::TooLarge { .. })
        ));
        let grown = front.grow(n).now_or_never().unwrap();
        assert!(matches!(grown, Err(ReserveError::TooLarge { .. })));
        assert!(front
            .try_put(&mut Buf::chain(&[0; 65][..], &[0; 65][..]))
            .is_err());
        front.truncate(n);
        assert_eq!(front, vec![b'f'; 64]);
        assert_eq!(back, vec![b'b'; 128]);
    }
    assert_eq!((pool.stats().live, pool.stats().waiting), (0, 0));
}

#[test]
fn shared_buffers_and_ropes_take_any_argument() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let whole = pool.try_copy_from_slice(&[7; 200]).unwrap();
    type Call<T> = (&'static str, fn(&mut T, usize));
    let panics: &[Call<DirectBytes>] = &[
        ("advance", |b, n| b.advance(n)),
        ("split_to", |b, n| drop(b.split_to(n))),
        ("split_off", |b, n| drop(b.split_off(n))),
        ("slice to", |b, n| drop(b.slice(..n))),
        ("slice from", |b, n| drop(b.slice(n..))),
        ("slice inclusive", |b, n| drop(b.slice(0..=n))),
        ("slice backwards", |b, n| {
            #[allow(clippy::reversed_empty_ranges)]
            drop(b.slice(n..0));
        }),
        ("slice_or_detach", |b, n| drop(b.slice_or_detach(..n, 1))),
        ("slice_ref", |b, _| drop(b.slice_ref(&[7; 3]))),
        ("copy_to_bytes", |b, n| drop(b.copy_to_bytes(n))),
        ("get_uint", |b, n| _ = b.get_uint_le(n)),
    ];
    for (what, call) in panics {
        for n in EXTREMES {
            let mut bytes = whole.slice(50..100);
            assert!(
                attempt(|| call(&mut bytes, n)).is_none(),
                "{what}({n}) is accepted"
            );
            assert!(bytes.len() <= 50 && bytes.iter().all(|b| *b == 7));
        }
    }
    let rope: &[Call<DirectRope>] = &[
        ("advance", |r, n| r.advance(n)),
        ("split_to", |r, n| drop(r.split_to(n))),
        ("split_off", |r, n| drop(r.split_off(n))),
        ("slice to", |r, n| drop(r.slice(..n))),
        ("slice from", |r, n| drop(r.slice(n..))),
        ("slice inclusive", |r, n| drop(r.slice(..=n))),
        ("copy_to_bytes", |r, n| drop(r.copy_to_bytes(n))),
    ];
    for (what, call) in rope {
        for n in EXTREMES {
            let mut rope = DirectRope::from_iter([whole.slice(..50), whole.slice(70..)]);
            assert!(
                attempt(|| call(&mut rope, n)).is_none(),
                "{what}({n}) is accepted"
            );
            assert!(rope.len() <= 180 && rope.parts().all(|p| p.iter().all(|b| *b == 7)));
        }
    }
    for n in EXTREMES {
        // Whatever the ratio: a slice or a copy.
        assert_eq!(whole.slice_or_detach(..3, n), [7; 3][..]);
        assert_eq!(whole.slice_or_detach(..3, 0), [7; 3][..]);
        let (mut bytes, mut rope) = (whole.clone(), DirectRope::from(whole.clone()));
        bytes.truncate(n);
        rope.truncate(n);
        assert_eq!((bytes.len(), rope.len()), (200, 200));
    }
    drop(whole);
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn pools_take_any_argument() {
    let pool = Pool::builder()
        .name("x".repeat(10_000))
        .limit(1 << 20)
        .floor(MAX)
        .high_water(f64::INFINITY)
        .decommit_after(Duration::MAX)
        .build()
        .unwrap();
    for n in EXTREMES {
        assert!(matches!(
            pool.try_reserve(n),
            Err(TryReserveError::TooLarge { .. })
        ));
        for result in [
            pool.reserve(n).now_or_never().unwrap(),
            pool.reserve_owned(n).now_or_never().unwrap(),
            pool.reserve_zeroed(n).now_or_never().unwrap(),
            pool.reserve_blocking(n),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, ReserveError::TooLarge { .. }), "{error}");
            assert!(error.to_string().contains(&n.to_string()));
        }
        for sizes in [vec![n], vec![n, n], vec![1, n, 1], vec![n; 100]] {
            let many = pool.reserve_many(sizes).now_or_never().unwrap();
            assert!(matches!(many, Err(ReserveError::TooLarge { .. })));
        }
        let error = pool.set_limit(n).unwrap_err();
        assert_eq!((error.requested, error.max_limit), (n as u64, 1 << 20));
        let mut again = PollReserve::new(pool.clone());
        let waker = futures::task::noop_waker();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(again.poll_reserve(&mut cx, n).is_ready());
    }
    for build in [
        Pool::builder().limit(MAX),
        Pool::builder().limit(1).max_limit(MAX),
        Pool::builder().limit(2).max_limit(1),
        Pool::builder().limit(1).shards(0),
        Pool::builder().limit(1).shards(MAX),
        Pool::builder(),
    ] {
        let error = build.build().unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    for part in [
        f64::NAN,
        f64::NEG_INFINITY,
        -1.0,
        0.0,
        2.0,
        f64::MIN_POSITIVE,
    ] {
        let pool = Pool::builder()
            .limit(1 << 20)
            .high_water(part)
            .build()
            .unwrap();
        let _watched = pool.pressure();
        drop(pool.try_reserve(PAGE).unwrap());
    }
    let quick = Pool::builder()
        .limit(1 << 20)
        .decommit_after(Duration::ZERO)
        .build()
        .unwrap();
    drop(quick.try_reserve(PAGE).unwrap());
    let stats = pool.stats();
    assert_eq!((stats.live, stats.waiting, stats.committed), (0, 0, 0));
    assert!(pool.try_reserve(1 << 20).is_ok());
}

#[cfg(all(unix, feature = "io"))]
#[tokio::test]
async fn streams_take_any_argument() {
    use offheap::io::{
        copy, copy_bidirectional, read_pooled, FramedReader, LengthDelimited, Lines, PooledReader,
        PooledWriter,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ready() -> (tokio::net::UnixStream, tokio::net::UnixStream) {
        let (mut near, far) = tokio::net::UnixStream::pair().unwrap();
        near.write_all(&[7; 100]).await.unwrap();
        near.shutdown().await.unwrap();
        (near, far)
    }

    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let is_too_large = |error: &std::io::Error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        matches!(inner, Some(ReserveError::TooLarge { .. }))
    };
    for n in EXTREMES {
        let (_near, mut far) = ready().await;
        let error = read_pooled(&mut far, &pool, n).await.unwrap_err();
        assert!(is_too_large(&error), "{error}");

        let (_near, far) = ready().await;
        let mut reader = PooledReader::with_capacity(far, &pool, n);
        let error = reader.read_u8().await.unwrap_err();
        assert!(is_too_large(&error), "{error}");

        let mut written = Vec::new();
        let mut writer = PooledWriter::with_capacity(&mut written, &pool, n);
        // What is gathered needs memory: that is had for what is written, or refused.
        let _ = writer.write_all(&[1; 100]).await;
        let _ = writer.flush().await;
        drop(writer);
        assert!(written.len() <= 100);

        let (_near, mut far) = ready().await;
        let mut sink = Vec::new();
        let error = copy(&mut far, &mut sink, &pool)
            .buffer_size(n)
            .await
            .unwrap_err();
        assert!(is_too_large(&error), "{error}");
        let ((_near, mut a), (_other, mut b)) = (ready().await, ready().await);
        let relayed = copy_bidirectional(&mut a, &mut b, &pool)
            .buffer_size(n)
            .await;
        match relayed {
            // No more was asked for than the other end had room for.
            Ok(moved) => assert_eq!(moved, (100, 100)),
            Err(error) => assert!(is_too_large(&error), "{error}"),
        }

        // The length that a peer says, and what is added to it.
        for adjustment in [isize::MIN, -1, 0, isize::MAX] {
            let mut wire = (n as u64).to_be_bytes().to_vec();
            wire.extend([0; 100]);
            let decoder = LengthDelimited::new()
                .length_field_length(8)
                .length_adjustment(adjustment)
                .max_frame_length(MAX);
            let mut frames = FramedReader::new(&wire[..], decoder, &pool);
            let frame = futures::StreamExt::next(&mut frames).await;
            match frame {
                // What is said and what is added may come to nothing: then the frame is empty, as in tokio_util's codec.
                Some(Ok(frame)) => {
                    assert_eq!(n.checked_add_signed(adjustment), Some(0));
                    assert!(frame.is_empty(), "{n} {adjustment}");
                }
                Some(Err(_)) => {
                    assert_ne!(
                        n.checked_add_signed(adjustment),
                        Some(0),
                        "{n} {adjustment}"
                    );
                }
                None => panic!("{n} {adjustment}: no frame and no error"),
            }
        }
        for decoder in [
            LengthDelimited::new().length_field_offset(n),
            LengthDelimited::new().num_skip(n),
        ] {
            let wire = [0, 0, 0, 1, 9, 9, 9, 9];
            let mut frames = FramedReader::new(&wire[..], decoder, &pool);
            let frame = futures::StreamExt::next(&mut frames).await;
            assert!(
                !matches!(frame, Some(Ok(frame)) if !frame.is_empty()),
                "{n}"
            );
        }
        let mut lines = FramedReader::new(&b"one\ntwo"[..], Lines::with_max_length(n), &pool);
        assert_eq!(
            futures::StreamExt::next(&mut lines).await.unwrap().unwrap(),
            "one"
        );
        assert!(attempt(|| LengthDelimited::new().length_field_length(n)).is_none());
    }
    assert!(attempt(|| PooledReader::with_capacity(&b""[..], &pool, 0)).is_none());
    let mut none = FramedReader::new(&b"one\n"[..], Lines::with_max_length(0), &pool);
    assert!(futures::StreamExt::next(&mut none).await.unwrap().is_err());
    // It still has what it read.
    drop(none);
    assert_eq!((pool.stats().live, pool.stats().waiting), (0, 0));
}

// ---- above 4 GiB ----------------------------------------------------------------------------------------------------

/// Memory that no one writes to costs nothing; so one block of 6 GiB can be had, and looked at far behind 4 GiB.
#[cfg(all(target_pointer_width = "64", not(offheap_heap)))]
#[test]
fn one_block_above_4_gib() {
    const GIB: usize = 1 << 30;
    let pool = Pool::builder()
        .limit(8 * GIB)
        .max_limit(16 * GIB)
        .build()
        .unwrap();
    let mut buffer = pool.try_reserve(6 * GIB).unwrap();
    let stats = pool.stats();
    assert!(
        stats.live >= 6 * GIB as u64 && stats.requested == 6 * GIB as u64,
        "{stats:?}"
    );
    assert!(matches!(
        pool.try_reserve(3 * GIB),
        Err(TryReserveError::Exhausted { .. })
    ));
    assert!(matches!(
        pool.try_reserve(8 * GIB + 1),
        Err(TryReserveError::TooLarge { .. })
    ));
    // SAFETY: within the capacity, and memory of a new pool is zero.
    unsafe { buffer.set_len(6 * GIB) };
    buffer[5 * GIB..][..5].copy_from_slice(b"there");
    let mut back = buffer.split_off(5 * GIB - 1);
    back[0] = b'.';
    assert!(attempt(|| drop(back.split_to(GIB + 2))).is_none());
    let (front, back) = (buffer.freeze(), back.freeze());
    assert_eq!(back.slice(..6), b".there"[..]);
    assert!(attempt(|| front.slice(5 * GIB - 1..=5 * GIB - 1)).is_none());
    assert_eq!(front.slice(4 * GIB + 1..4 * GIB + 3), [0, 0][..]);
    let weak = back.slice(1..).downgrade();
    assert_eq!(weak.upgrade().unwrap().slice(..5), b"there"[..]);
    let mut rope = DirectRope::from_iter([front, back]);
    assert_eq!(rope.len(), 6 * GIB);
    rope.advance(5 * GIB - 1);
    assert_eq!(rope.slice(..6), b".there"[..]);

    pool.set_limit(4 * GIB - 1).unwrap();
    assert_eq!(pool.limit(), 4 * GIB - 1);
    assert!(matches!(
        pool.try_reserve(1),
        Err(TryReserveError::Exhausted { .. })
    ));
    drop(rope);
    assert!(weak.upgrade().is_none());
    assert!(pool.try_reserve(1).is_ok());
    assert!(pool.stats().committed < 4 * GIB as u64);
    pool.set_limit(16 * GIB).unwrap();
    assert!(pool.max_reserve() > 4 * GIB);
    drop(pool.try_reserve(16 * GIB).unwrap());
    pool.trim();
    assert_eq!((pool.stats().committed, pool.stats().live), (0, 0));
    assert_eq!(pool.resident(), Some(0));
}

/// Blocks that together are more than 4 GiB: no figure wraps, up to the limit and not a block more.
#[cfg(all(target_pointer_width = "64", not(offheap_heap)))]
#[test]
fn many_blocks_above_4_gib() {
    const LIMIT: usize = 5 << 30;
    const BLOCK: usize = 64 << 10;
    within(120, || {
        let pool = Pool::builder().limit(LIMIT).build().unwrap();
        let held: Vec<_> = std::iter::from_fn(|| pool.try_reserve(BLOCK).ok()).collect();
        assert_eq!(held.len(), LIMIT / BLOCK);
        let stats = pool.stats();
        let all = LIMIT as u64;
        assert_eq!(
            (stats.live, stats.committed, stats.requested),
            (all, all, all)
        );
        assert_eq!(pool.holders()[0].bytes, all);
        drop(held);
        assert_eq!((pool.stats().live, pool.stats().queued), (0, all));
        assert_eq!(pool.trim(), LIMIT);
        assert_eq!(pool.stats().cleaned_bytes_total, all);
    });
}
