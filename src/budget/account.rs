//! The account: limit and committed memory, in pages, in one 64-bit word.
//!
//! ```text
//!   63              33    32     31              0
//!  ┌──────────────────┬─────────┬─────────────────┐
//!  │      limit       │ pressed │    committed    │      both counted in pages
//!  └──────────────────┴─────────┴─────────────────┘
//! ```
//!
//! Because both numbers are in one word, a charge that a lowered limit forbids can not slip through, and no charge is
//! ever taken and rolled back. Because the *pressed* bit is in the same word, a newcomer can not charge past a waiter,
//! and pages can not be given back past one either: while someone waits, only holders of the waiters' lock change what
//! is committed. No fence is needed between the two sides, and no wake-up can be lost.

use crate::sync::{AtomicU64, Ordering};

const COMMITTED: u64 = u32::MAX as u64;
const PRESSED: u64 = 1 << 32;
const LIMIT_SHIFT: u32 = 33;

#[derive(Debug)]
pub(crate) struct Account(AtomicU64);

/// Why a charge was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// The limit forbids it.
    Full,
    /// Someone waits: newcomers join the queue.
    Pressed,
}

impl Account {
    /// The largest limit, in pages.
    pub(crate) const MAX: u64 = u64::MAX >> LIMIT_SHIFT;

    pub(crate) fn new(limit: u32) -> Self {
        Account(AtomicU64::new(u64::from(limit) << LIMIT_SHIFT))
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Changes the word; answers what it was.
    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
    }

    pub(crate) fn limit(&self) -> u32 {
        (self.load() >> LIMIT_SHIFT) as u32
    }

    pub(crate) fn committed(&self) -> u32 {
        (self.load() & COMMITTED) as u32
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.load() & PRESSED != 0
    }

    /// The same by a change of the word: either it is pressed, or whoever presses it later sees what the caller did before.
    pub(crate) fn is_pressed_by_now(&self) -> bool {
        self.update(Some).is_ok_and(|word| word & PRESSED != 0)
    }

    /// Pages that may still be charged.
    pub(crate) fn free(&self) -> u32 {
        let word = self.load();
        ((word >> LIMIT_SHIFT) as u32).saturating_sub((word & COMMITTED) as u32)
    }

    /// Pages above a limit that was lowered below what is committed.
    pub(crate) fn debt(&self) -> u32 {
        let word = self.load();
        ((word & COMMITTED) as u32).saturating_sub((word >> LIMIT_SHIFT) as u32)
    }

    /// Takes `pages` for a newcomer.
    pub(crate) fn charge(&self, pages: u32) -> Result<(), Charge> {
        self.try_charge(pages, false)
    }

    /// Takes `pages` for the head of the queue. Under the waiters' lock.
    pub(crate) fn charge_for_waiter(&self, pages: u32) -> Result<(), Charge> {
        self.try_charge(pages, true)
    }

    fn try_charge(&self, pages: u32, waited: bool) -> Result<(), Charge> {
        let change = |word| {
            let committed = (word & COMMITTED) + u64::from(pages);
            let barred = word & PRESSED != 0 && !waited;
            (!barred && committed <= word >> LIMIT_SHIFT).then(|| word + u64::from(pages))
        };
        match self.update(change) {
            Ok(_) => Ok(()),
            Err(word) if word & PRESSED != 0 && !waited => Err(Charge::Pressed),
            Err(_) => Err(Charge::Full),
        }
    }

    /// Gives `pages` back in calm; they are decommitted by now. Refused when someone waits: the caller must take the
    /// waiters' lock, use [`uncharge_locked`](Self::uncharge_locked), and serve.
    pub(crate) fn uncharge(&self, pages: u32) -> Result<(), Charge> {
        match self.update(|word| (word & PRESSED == 0).then(|| Self::less(word, pages))) {
            Ok(_) => Ok(()),
            Err(_) => Err(Charge::Pressed),
        }
    }

    /// Gives `pages` back. Under the waiters' lock.
    pub(crate) fn uncharge_locked(&self, pages: u32) {
        let _ = self.update(|word| Some(Self::less(word, pages)));
    }

    fn less(word: u64, pages: u32) -> u64 {
        debug_assert!(word & COMMITTED >= u64::from(pages), "books below zero");
        word - u64::from(pages)
    }

    /// Bars newcomers, or lets them in again. Under the waiters' lock.
    pub(crate) fn set_pressed(&self, pressed: bool) {
        let _ = self.update(|word| {
            Some(if pressed {
                word | PRESSED
            } else {
                word & !PRESSED
            })
        });
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        let new = u64::from(limit) << LIMIT_SHIFT;
        let low = (1 << LIMIT_SHIFT) - 1;
        let _ = self.update(|word| Some(word & low | new));
    }
}

#[cfg(all(test, not(offheap_loom)))]
mod tests {
    use super::*;

    #[test]
    fn charges_up_to_the_limit_and_not_a_page_more() {
        let account = Account::new(10);
        assert_eq!(account.charge(11), Err(Charge::Full));
        assert_eq!(account.charge(7), Ok(()));
        assert_eq!(account.charge(4), Err(Charge::Full));
        assert_eq!(account.charge(3), Ok(()));
        assert_eq!((account.free(), account.debt()), (0, 0));
        assert_eq!(account.uncharge(10), Ok(()));
        assert_eq!(account.committed(), 0);
    }

    #[test]
    fn pressed_bars_newcomers_and_tells_who_gives_back() {
        let account = Account::new(10);
        account.charge(5).unwrap();
        account.set_pressed(true);
        assert_eq!(account.charge(1), Err(Charge::Pressed));
        assert_eq!(account.charge_for_waiter(6), Err(Charge::Full));
        assert_eq!(account.charge_for_waiter(5), Ok(()));
        assert_eq!(account.uncharge(10), Err(Charge::Pressed));
        account.uncharge_locked(10);
        account.set_pressed(false);
        assert_eq!(account.charge(1), Ok(()));
    }

    #[test]
    fn a_lowered_limit_is_a_debt() {
        let account = Account::new(u32::try_from(Account::MAX).unwrap());
        account.charge(10).unwrap();
        account.set_limit(4);
        assert_eq!((account.limit(), account.debt(), account.free()), (4, 6, 0));
        assert_eq!(account.charge(0), Err(Charge::Full));
        assert_eq!(account.uncharge(7), Ok(()));
        assert_eq!((account.debt(), account.free()), (0, 1));
    }
}
