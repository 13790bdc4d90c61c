//! Which size classes a pool has, and which class serves how many bytes.
//!
//! Sizes form a *ladder*: 256 bytes, then four steps per doubling, up to the limit, which is the top class itself, in
//! whole pages. A *span* is the shortest run of whole pages that blocks fill without remainder, so that block `i` simply
//! lies at `i × size`: one block for every size that is whole pages, at most seven pages for the others. Rungs whose span
//! would not fit below the limit, or (where pages are large) would be more than 64 KiB, are left out; the next larger
//! class serves them.

/// A class's number within its pool.
pub(crate) type ClassId = u16;

/// More than any limit has: four per doubling, from 2⁸ to 2⁵⁵ bytes.
const RUNGS: usize = 192;
/// A class that no pool has.
const NO_CLASS: ClassId = ClassId::MAX;

/// The smallest class.
const SMALLEST: usize = 256;

/// Sizes up to 64 KiB are looked up in a table, in steps of so many bytes: all classes up to there are multiples of it.
const GRANULE: usize = SMALLEST / 4;
/// (Under loom less: stacks are small there.)
const GRANULES: usize = (if cfg!(offheap_loom) {
    8 << 10
} else {
    64 << 10
}) / GRANULE;
/// No class of the table.
const NO_SMALL: u8 = u8::MAX;

/// Of spans that several blocks share; what is stranded is less than that for each span in use.
const LARGEST_SHARED_SPAN: usize = 64 << 10;

/// A class's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of a block.
    pub(crate) size: usize,
    /// Blocks of a span.
    pub(crate) per_span: u32,
    /// Pages of a span.
    pub(crate) pages: u32,
    /// Spans that fit into the largest limit.
    pub(crate) spans: usize,
}

impl Shape {
    /// Bytes of a span.
    pub(crate) fn span(&self) -> usize {
        self.size * self.per_span as usize
    }
}

#[derive(Debug)]
pub(super) struct Sizes {
    shapes: Vec<Shape>,
    /// The class that serves so many granules; in place, for it is read by every reservation.
    small: [u8; GRANULES + 1],
    /// The class that serves each rung of the ladder.
    rungs: [ClassId; RUNGS],
    /// For each class the one to fall back to when a whole span of it does not fit.
    compact: Vec<Option<ClassId>>,
}

/// The rung that serves `n` bytes.
#[inline]
fn rung(n: usize) -> usize {
    if n <= SMALLEST {
        return 0;
    }
    let last = n - 1;
    let doubling = last.ilog2();
    let quarter = (last >> (doubling - 2)) & 3;
    (doubling - SMALLEST.ilog2()) as usize * 4 + quarter + 1
}

/// The size of a rung; `None` past the end of `usize`.
fn rung_size(rung: usize) -> Option<usize> {
    let Some(step) = rung.checked_sub(1) else {
        return Some(SMALLEST);
    };
    let base = SMALLEST.checked_shl((step / 4) as u32)?;
    if base >> (step / 4) != SMALLEST {
        return None;
    }
    base.checked_add(base / 4 * (step % 4 + 1))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}

impl Sizes {
    pub(super) fn new(max_limit: u64, page: usize, page_aligned: bool) -> Sizes {
        // Memory is resident in whole pages, so that is what a limit is worth.
        let limit = usize::try_from(max_limit).unwrap_or(usize::MAX) / page * page;
        let limit = limit.min(isize::MAX as usize / page * page);
        let shape = |size: usize| {
            let per_span = page / gcd(size, page);
            let span = size.checked_mul(per_span)?;
            if per_span > 1 && span > LARGEST_SHARED_SPAN {
                return None;
            }
            let spans = limit.checked_div(span).filter(|&n| n > 0)?;
            Some(Shape {
                size,
                per_span: per_span as u32,
                pages: u32::try_from(span / page).ok()?,
                spans,
            })
        };
        let mut shapes: Vec<Shape> = (0..)
            .map_while(rung_size)
            .take_while(|&size| size < limit)
            .filter(|&size| !page_aligned || size % page == 0)
            .filter_map(shape)
            .collect();
        shapes.extend((limit > 0).then(|| shape(limit)).flatten());
        let first_from = |least: usize| shapes.iter().position(|shape| shape.size >= least);
        let mut rungs = [NO_CLASS; RUNGS];
        let served = (0..RUNGS).map_while(|rung| {
            let below = rung.checked_sub(1).map_or(Some(0), rung_size)?;
            let top = first_from(below + 1).map(|_| shapes.len() - 1)?;
            // The top class may be smaller than the rung that it ends.
            let class = rung_size(rung).and_then(first_from).unwrap_or(top);
            Some(class as ClassId)
        });
        rungs
            .iter_mut()
            .zip(served)
            .for_each(|(rung, class)| *rung = class);
        let compact = (0..shapes.len())
            .map(|id| {
                let own = shapes[id];
                let need = own.size.next_multiple_of(page);
                (id + 1..shapes.len())
                    .find(|&other| shapes[other].span() <= need)
                    .filter(|_| own.span() > need)
                    .map(|id| id as ClassId)
            })
            .collect();
        let mut sizes = Sizes {
            shapes,
            small: [NO_SMALL; GRANULES + 1],
            rungs,
            compact,
        };
        for granules in 1..=GRANULES {
            let class = sizes.large_class_for(granules * GRANULE);
            let class = class.and_then(|class| u8::try_from(class).ok());
            sizes.small[granules] = class.unwrap_or(NO_SMALL);
        }
        sizes
    }

    /// The class that serves `n` > 0 bytes; a number beyond all classes where there is none.
    #[inline]
    pub(super) fn class_for(&self, n: usize) -> usize {
        match n.div_ceil(GRANULE) {
            0..=GRANULES => self.small_class_for(n),
            _ => self.large_class_for(n).map_or(usize::MAX, usize::from),
        }
    }

    /// The same, but only for what is in the table.
    #[inline]
    pub(super) fn small_class_for(&self, n: usize) -> usize {
        // Numbers so large that they wrap are as good as none.
        let granules = n.wrapping_add(GRANULE - 1) / GRANULE;
        self.small
            .get(granules)
            .map_or(usize::MAX, |&class| usize::from(class))
    }

    fn large_class_for(&self, n: usize) -> Option<ClassId> {
        let class = *self.rungs.get(rung(n))?;
        // The last class may be smaller than its rung.
        let shape = self.shapes.get(usize::from(class))?;
        (n <= shape.size).then_some(class)
    }

    pub(super) fn compact(&self, id: ClassId) -> Option<ClassId> {
        self.compact[id as usize]
    }

    pub(super) fn shapes(&self) -> impl Iterator<Item = Shape> + '_ {
        self.shapes.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.shapes.len()
    }
}

#[cfg(all(test, not(offheap_loom)))]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    /// As `Arena::class_for` does it.
    fn class_for(sizes: &Sizes, n: usize) -> Option<ClassId> {
        let id = sizes.class_for(n);
        (id < sizes.len()).then_some(id as ClassId)
    }

    #[test]
    fn four_rungs_per_doubling() {
        let sizes: Vec<_> = (0..9).map_while(rung_size).collect();
        assert_eq!(sizes, [256, 320, 384, 448, 512, 640, 768, 896, 1024]);
        for n in 1..100_000 {
            let size = rung_size(rung(n)).unwrap();
            assert!(size >= n, "{n} -> {size}");
            let below = rung(n).checked_sub(1).and_then(rung_size).unwrap_or(0);
            assert!(below < n, "{n} -> {size}, but {below} would do");
        }
        assert!(rung_size(rung(usize::MAX)).is_none());
    }

    #[test]
    fn every_size_up_to_the_limit_has_a_class_without_much_waste() {
        for limit in [4096, 5000, 20_480, 65_536, 100_000, 1 << 20, (10 << 20) + 1] {
            let sizes = Sizes::new(limit, PAGE, false);
            let top = limit as usize / PAGE * PAGE;
            assert_eq!(sizes.shapes().last().unwrap().size, top);
            for n in (1..=top).step_by(if top > 65_536 { 61 } else { 1 }) {
                let id = class_for(&sizes, n).unwrap();
                let shape = sizes.shapes[id as usize];
                assert!(shape.size >= n && shape.span() <= top);
                if shape.size != top && n > SMALLEST && 7 * PAGE <= top {
                    assert!(shape.size - n < shape.size / 5 + 1, "{n} -> {}", shape.size);
                }
            }
            assert_eq!(class_for(&sizes, top + 1), None);
            assert_eq!(class_for(&sizes, usize::MAX), None);
        }
    }

    #[test]
    fn spans_are_whole_pages_and_small() {
        let sizes = Sizes::new(1 << 30, PAGE, false);
        for shape in sizes.shapes() {
            assert_eq!(shape.span() % PAGE, 0);
            assert_eq!(shape.span() / PAGE, shape.pages as usize);
            if shape.size >= 16 << 10 {
                assert_eq!(shape.per_span, 1);
            } else {
                assert!(shape.span() <= 7 * PAGE);
            }
        }
    }

    #[test]
    fn compact_classes_take_no_more_pages_than_the_block_itself() {
        let sizes = Sizes::new(1 << 20, PAGE, false);
        for (id, shape) in sizes.shapes().enumerate() {
            let need = shape.size.next_multiple_of(PAGE);
            match sizes.compact(id as ClassId) {
                None => assert!(shape.span() <= need),
                Some(other) => {
                    let other = sizes.shapes[other as usize];
                    assert!(other.size >= shape.size && other.span() <= need);
                }
            }
        }
    }

    #[test]
    fn page_aligned_classes_are_whole_pages() {
        let sizes = Sizes::new(1 << 20, PAGE, true);
        assert!(sizes
            .shapes()
            .all(|s| s.size % PAGE == 0 && s.per_span == 1));
        assert_eq!(
            sizes.shapes[class_for(&sizes, 1).unwrap() as usize].size,
            PAGE
        );
    }

    #[test]
    fn a_limit_below_one_page_has_no_classes() {
        for limit in [0, 1, 4095] {
            let sizes = Sizes::new(limit, PAGE, false);
            assert_eq!(sizes.len(), 0);
            assert_eq!(class_for(&sizes, 1), None);
        }
    }
}
