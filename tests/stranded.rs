//! Small blocks whose spans are partly in use are not looked at again and again while someone waits for another size.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/starved.rs"]
mod starved;

use offheap::{DirectBytesMut, Pool};

use by_hand::ByHand;
use starved::starved;

const LIMIT: usize = 1 << 20;
const SMALL: usize = 1024;
const PER_SPAN: usize = 4;
const LARGE: usize = 16 << 10;

/// Half of the pool in small blocks, of which each span keeps one, and half of it in large blocks.
fn stranded(pool: &Pool) -> (Vec<DirectBytesMut>, Vec<DirectBytesMut>) {
    let small: Vec<_> = (0..LIMIT / 2 / SMALL)
        .map(|_| pool.try_reserve(SMALL).unwrap())
        .collect();
    let large = (0..LIMIT / 2 / LARGE)
        .map(|_| pool.try_reserve(LARGE).unwrap())
        .collect();
    assert_eq!(pool.stats().committed as usize, LIMIT);
    let mut index = 0;
    let mut kept = small;
    kept.retain(|_| {
        index += 1;
        index % PER_SPAN == 0
    });
    (kept, large)
}

#[test]
fn a_look_in_vain_is_not_repeated() {
    let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
    let (kept, mut large) = stranded(&pool);
    let queued = pool.stats().queued as usize / SMALL;
    assert_eq!(queued, LIMIT / 2 / SMALL / PER_SPAN * (PER_SPAN - 1));
    let mut waiting = ByHand::new(Box::pin(pool.reserve(LIMIT / 2)));
    assert!(waiting.poll().is_pending());
    let before = pool.stats().searched_total as usize;
    // Each of these drops is news, and each time the head may be polled.
    while large.len() > 1 {
        large.pop();
        if waiting.take_woken() {
            assert!(waiting.poll().is_pending());
        }
    }
    let searched = pool.stats().searched_total as usize - before;
    assert!(
        searched <= queued,
        "{searched} looked at, {queued} queued blocks"
    );
    drop(large);
    assert!(waiting.take_woken(), "nobody was told");
    assert!(waiting.poll().is_ready());
    drop(kept);
    pool.trim();
    assert_eq!(pool.stats().committed, 0);
}

/// Blocks that come back to spans in which others are live give no reason to look; the last of each span does.
#[test]
fn until_the_last_block_of_a_span_comes_back() {
    for reverse in [false, true] {
        let (pool, _runtime) = starved(Pool::builder().limit(LIMIT));
        let mut rounds: Vec<Vec<DirectBytesMut>> = (0..PER_SPAN).map(|_| Vec::new()).collect();
        for n in 0..LIMIT / SMALL {
            rounds[n % PER_SPAN].push(pool.try_reserve(SMALL).unwrap());
        }
        if reverse {
            rounds.iter_mut().for_each(|round| round.reverse());
            rounds.reverse();
        }
        let mut waiting = ByHand::new(Box::pin(pool.reserve(LARGE)));
        assert!(waiting.poll().is_pending());
        // One of each span: after one look it is known that no span is complete.
        let mut last = rounds.pop().unwrap();
        drop(rounds.pop());
        assert!(waiting.take_woken() && waiting.poll().is_pending());
        let before = pool.stats().searched_total;
        // The next of each span, and the next, but for the last.
        drop(rounds);
        assert!(!waiting.take_woken());
        assert_eq!(pool.stats().searched_total, before);
        for missing in (0..LARGE / (SMALL * PER_SPAN)).rev() {
            last.pop();
            assert!(waiting.take_woken(), "nobody was told of a complete span");
            assert_eq!(waiting.poll().is_ready(), missing == 0);
        }
        let stats = pool.stats();
        let looks = (stats.searched_total - before) as usize / (LIMIT / SMALL);
        assert!(
            looks <= 2 * LARGE / (SMALL * PER_SPAN),
            "{looks} looks at everything"
        );
    }
}

/// While it is not known what comes back, because nobody waits, each who needs memory looks.
#[test]
fn in_calm_nothing_is_missed() {
    let pool = Pool::builder().limit(LIMIT).build().unwrap();
    let (mut kept, large) = stranded(&pool);
    assert!(pool.try_reserve(LARGE).is_err());
    let mut spans = 0;
    while pool.try_reserve(LARGE).is_err() {
        kept.pop().expect("served long before");
        spans += 1;
    }
    assert_eq!(spans, LARGE / (SMALL * PER_SPAN));
    drop(large);
}
