//! Tokens come out of a reference queue once each, and the queue ends when no one can put one in.

use loom::thread;

use super::*;
use crate::reclaim::{ReferenceHandle, ReferenceQueue};

/// Counts its drops.
struct Counting(Arc<AtomicUsize>);

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn notify<T: Send + 'static>(handle: &Handle, queue: &ReferenceHandle<T>, token: T) {
    let job = queue.job(token, Location::caller());
    Engine::of(handle).register(handle, job);
}

/// A delivery against the drop of the queue: the token is dropped once, whoever does it.
#[test]
fn delivery_against_drop_of_the_queue() {
    model("delivery_against_drop_of_the_queue", 3, || {
        let pool = Pool::new(1);
        let drops = Arc::new(AtomicUsize::new(0));
        let (queue, handle) = ReferenceQueue::new();
        let one = pool.take(PAGE);
        notify(&one, &handle, Counting(drops.clone()));
        drop(handle);
        let dropper = thread::spawn({
            let pool = pool.clone();
            move || {
                drop(one);
                while pool.engine().clean_one() {}
            }
        });
        drop(queue);
        dropper.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        pool.check(0);
    });
}

/// A consumer that waits against the delivery: it gets the token, whose memory can be reserved by then, and then the end.
#[test]
fn delivery_against_wait() {
    model("delivery_against_wait", 3, || {
        let pool = Pool::new(1);
        let (mut queue, handle) = ReferenceQueue::new();
        let one = pool.take(PAGE);
        notify(&one, &handle, 7);
        drop(handle);
        let dropper = thread::spawn({
            let pool = pool.clone();
            move || {
                drop(one);
                while pool.engine().clean_one() {}
            }
        });
        let token = loom::future::block_on(poll_fn(|cx| queue.poll_pop(cx)));
        assert_eq!(token, Some(7));
        drop(pool.take(PAGE));
        let end = loom::future::block_on(poll_fn(|cx| queue.poll_pop(cx)));
        assert_eq!(end, None);
        dropper.join().unwrap();
    });
}

/// The last handle goes while the consumer waits: the stream ends.
#[test]
fn last_handle_against_wait() {
    model("last_handle_against_wait", 3, || {
        let (mut queue, handle) = ReferenceQueue::<u32>::new();
        let dropper = thread::spawn(move || drop((handle.clone(), handle)));
        let end = loom::future::block_on(poll_fn(|cx| queue.poll_pop(cx)));
        assert_eq!(end, None);
        dropper.join().unwrap();
    });
}
