//! What start-up costs by how a pool is set: time to build and resident memory by limit and shards, first touch with and without
//! huge pages and prefaulting. Medians, without goals: `compare` has those, for a pool as it comes.

use std::hint::black_box;
use std::time::Instant;

use offheap::Pool;
use offheap_benches::figures::median;
use offheap_benches::scenario::start::resident;

const GIB: usize = 1 << 30;
const MIB: usize = 1 << 20;

fn median_of(rounds: usize, mut f: impl FnMut() -> f64) -> f64 {
    median((0..rounds).map(|_| f()).collect())
}

fn main() {
    println!("| pool | built in | resident | dropped in |\n| --- | --- | --- | --- |");
    for (limit, shards, huge) in [
        (64 * MIB, None, false),
        (64 * GIB, None, false),
        (64 * GIB, None, true),
        (64 * GIB, Some(16), false),
        (64 * GIB, Some(128), false),
    ] {
        let build = || {
            let builder = Pool::builder().limit(limit).huge_pages(huge);
            match shards {
                Some(shards) => builder.shards(shards),
                None => builder,
            }
            .build()
            .expect("a pool")
        };
        drop(build());
        let before = resident().expect("Linux");
        let pools: Vec<_> = (0..16).map(|_| build()).collect();
        let after = resident().expect("Linux");
        let each = after.saturating_sub(before) / pools.len() as u64;
        drop(pools);
        let mut dropped = Vec::new();
        let built = median_of(200, || {
            let start = Instant::now();
            let pool = build();
            let built = start.elapsed();
            let start = Instant::now();
            drop(black_box(pool));
            dropped.push(start.elapsed().as_nanos() as f64 / 1e3);
            built.as_nanos() as f64 / 1e3
        });
        let shards = shards.map_or("cores".to_owned(), |n: usize| n.to_string());
        let huge = if huge { ", huge pages" } else { "" };
        println!(
            "| {} MiB, shards: {shards}{huge} | {built:.0} µs | {} KiB | {:.0} µs |",
            limit / MIB,
            each >> 10,
            median(dropped)
        );
    }

    println!(
        "\n| first use of 64 MiB, in ms | 64 KiB | 2 MiB | 8 MiB |\n| --- | --- | --- | --- |"
    );
    type Case = (&'static str, bool, bool);
    let cases: [Case; 4] = [
        ("small pages", false, false),
        ("huge pages", true, false),
        ("small pages, prefaulted", false, true),
        ("huge pages, prefaulted", true, true),
    ];
    for (name, huge, ahead) in cases {
        let times = [64 << 10, 2 * MIB, 8 * MIB].map(|size| {
            let mut prefault = Vec::new();
            let used = median_of(9, || {
                let builder = Pool::builder().limit(128 * MIB).huge_pages(huge);
                let pool = builder.build().expect("a pool");
                let count = 64 * MIB / size;
                if ahead {
                    let start = Instant::now();
                    pool.prefault(size, count).expect("room");
                    prefault.push(start.elapsed().as_nanos() as f64 / 1e6);
                }
                let mut held = Vec::with_capacity(count);
                let start = Instant::now();
                for _ in 0..count {
                    let mut buffer = pool.try_reserve(size).expect("room");
                    for page in buffer.spare_capacity_mut().chunks_mut(4096) {
                        page[0].write(1);
                    }
                    held.push(buffer);
                }
                start.elapsed().as_nanos() as f64 / 1e6
            });
            match ahead {
                true => format!("{used:.2} (ahead: {:.2})", median(prefault)),
                false => format!("{used:.2}"),
            }
        });
        println!("| {name} | {} |", times.join(" | "));
    }
}
