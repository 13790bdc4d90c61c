use bytes::BufMut;
use offheap::*;
use std::time::Duration;

#[tokio::test]
async fn all() {
    let pool = Pool::builder().limit(1 << 20).build().unwrap();
    let a = pool.reserve(1000).await.unwrap();
    println!("{:?}", pool.stats());
    drop(a);
    println!("{:?}", pool.stats());
    let v: Vec<_> = (0..64)
        .map(|_| pool.try_reserve(16384).map_err(|e| e.to_string()))
        .collect();
    for e in &v {
        if let Err(e) = e {
            println!("{e}");
        }
    }
    println!("{:?}", pool.stats());
    let p2 = pool.clone();
    let t = tokio::spawn(async move { p2.reserve(1 << 20).await.map(|b| b.capacity()) });
    tokio::time::sleep(Duration::from_millis(20)).await;
    println!("{:?}", pool.stats());
    drop(v);
    println!("{:?}", t.await.unwrap());
    println!("{:?}", pool.stats());
    let mut z = pool.reserve_zeroed(300).await.unwrap();
    assert!(z.iter().all(|&b| b == 0));
    z.put_slice(b"x");
    let m = pool.reserve_many([100, 5000, 0, 70000]).await.unwrap();
    println!("{:?} {:?}", pool.stats(), pool.holders());
    drop((z, m));
    println!("trim {}", pool.trim());
    println!("{:?}", pool.stats());
    let b = pool.reserve(10).await.unwrap();
    let p2 = pool.clone();
    let t = tokio::spawn(async move { p2.closed().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!t.is_finished());
    println!("{}", pool.try_reserve(0).unwrap_err());
    drop(b);
    t.await.unwrap();
}

#[test]
fn perf() {
    let pool = Pool::builder().limit(64 << 20).build().unwrap();
    for n in [4096usize, 16384, 65536] {
        for _ in 0..3 {
            let t = std::time::Instant::now();
            for _ in 0..1_000_000 {
                let mut b = pool.try_reserve(n).unwrap();
                b.put_u8(1);
                std::hint::black_box(&b);
            }
            let ours = t.elapsed().as_nanos() as f64 / 1e6;
            let t = std::time::Instant::now();
            for _ in 0..1_000_000 {
                let mut b = bytes::BytesMut::with_capacity(n);
                b.put_u8(1);
                std::hint::black_box(&b);
            }
            let theirs = t.elapsed().as_nanos() as f64 / 1e6;
            println!("{n}: ours {ours:.1} bytesmut {theirs:.1}");
        }
    }
}
