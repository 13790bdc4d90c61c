//! What one reservation asks for, and what it has been granted so far.
//!
//! A claim for several buffers is served in two steps. Blocks that are whole spans are granted one by one, as they come. Blocks
//! of small classes are granted last and all at once: taken one by one they could lie in a span each, and the claim would
//! wait for pages that its own grants keep from being cleaned.

use std::panic::Location;

use super::Refused;
use crate::arena::{Arena, Block, Class, ClassId, Handle};

/// A line of code that reserves.
pub(crate) type Site = &'static Location<'static>;

#[derive(Debug)]
pub(crate) struct Claim {
    asked: Asked,
    site: Site,
    /// Pages that whoever waits keeps in use until it has been served.
    beside: u32,
    refused: Option<Refused>,
}

#[derive(Debug)]
enum Asked {
    One(usize, Option<Handle>),
    Many(Box<Many>),
}

#[derive(Debug, Default)]
struct Many {
    sizes: Vec<usize>,
    /// In the order of `sizes`; none for sizes of zero.
    grants: Vec<Option<Handle>>,
    /// What is wanted, in the order in which it is granted.
    wants: Vec<Want>,
    /// How many of `wants` are granted.
    granted: usize,
    /// Where the wants of small classes begin.
    small_from: usize,
    /// How many blocks of each small class are wanted.
    small: Vec<(ClassId, u32)>,
    /// Pages of an empty pool that all of it takes; more than any limit where there is no class for something.
    pages: u64,
}

/// A block that a claim wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) n: usize,
    /// Which class it has to be. None: any that serves `n`.
    pub(super) class: Option<ClassId>,
    /// Its place in the order of the sizes.
    index: usize,
}

impl Many {
    fn take_back_from(&mut self, first: usize, f: impl FnMut(Block)) {
        let granted = self.wants.get(first..self.granted).unwrap_or_default();
        granted
            .iter()
            .filter_map(|want| self.grants[want.index].take())
            .map(Handle::into_block)
            .for_each(f);
        self.granted = self.granted.min(first);
    }
}

impl Claim {
    #[inline]
    pub(crate) fn one(n: usize, site: Site) -> Self {
        Claim {
            asked: Asked::One(n, None),
            site,
            beside: 0,
            refused: None,
        }
    }

    pub(crate) fn many(sizes: Vec<usize>, site: Site) -> Self {
        let many = Many {
            sizes,
            ..Many::default()
        };
        Claim {
            asked: Asked::Many(Box::new(many)),
            site,
            beside: 0,
            refused: None,
        }
    }

    /// A claim of whoever holds `beside` pages and keeps them until it has been served.
    pub(crate) fn beside(n: usize, beside: u32, site: Site) -> Self {
        Claim {
            beside,
            ..Claim::one(n, site)
        }
    }

    /// Pages that whoever waits keeps in use.
    pub(super) fn pages_beside(&self) -> u32 {
        self.beside
    }

    /// The line of code that asks.
    #[cfg(feature = "inspector")]
    pub(super) fn site(&self) -> Site {
        self.site
    }

    #[cfg(feature = "_waits")]
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Bytes asked for.
    pub(super) fn bytes(&self) -> u64 {
        match &self.asked {
            Asked::One(n, _) => *n as u64,
            Asked::Many(many) => many
                .sizes
                .iter()
                .fold(0, |sum, &n| sum.saturating_add(n as u64)),
        }
    }

    /// Decides, once, in which classes and in which order a claim for several buffers is served: each in the class that takes
    /// the fewest pages. All that is allocated for waiting is allocated here.
    pub(super) fn plan(&mut self, arena: &Arena) {
        let Asked::Many(many) = &mut self.asked else {
            return;
        };
        if many.grants.len() == many.sizes.len() {
            return;
        }
        many.grants.resize_with(many.sizes.len(), || None);
        for (index, &n) in many.sizes.iter().enumerate().filter(|(_, &n)| n > 0) {
            let Some(class) = arena.frugal_class_for(n) else {
                many.pages = u64::MAX;
                return;
            };
            let class = Some(class.id());
            many.wants.push(Want { n, class, index });
        }
        let is_small = |id: ClassId| arena.class(id).per_span() > 1;
        let id = |want: &Want| want.class.unwrap_or_default();
        many.wants
            .sort_by_key(|want| (is_small(id(want)), id(want)));
        many.small_from = many.wants.partition_point(|want| !is_small(id(want)));
        let (large, small) = many.wants.split_at(many.small_from);
        let pages = |id: ClassId| u64::from(arena.class(id).pages());
        many.pages = large.iter().map(|want| pages(id(want))).sum();
        for group in small.chunk_by(|a, b| a.class == b.class) {
            let (class, count) = (arena.class(id(&group[0])), group.len() as u64);
            many.small.push((class.id(), group.len() as u32));
            many.pages += count.div_ceil(u64::from(class.per_span())) * pages(class.id());
        }
    }

    /// Pages of an empty pool that a claim for several buffers takes.
    pub(super) fn pages(&self) -> Option<u64> {
        match &self.asked {
            Asked::One(..) => None,
            Asked::Many(many) => Some(many.pages),
        }
    }

    /// What is missing next; `None` when the claim is satisfied.
    #[inline]
    pub(super) fn wants(&self) -> Option<Want> {
        match &self.asked {
            Asked::One(n, granted) => (granted.is_none() && *n > 0).then_some(Want {
                n: *n,
                class: None,
                index: 0,
            }),
            Asked::Many(many) => many.wants.get(many.granted).copied(),
        }
    }

    /// What has to be granted all at once before anything else is: blocks of small classes, and how many of each.
    pub(super) fn wants_together(&self) -> &[(ClassId, u32)] {
        match &self.asked {
            Asked::Many(many) if many.granted == many.small_from => &many.small,
            _ => &[],
        }
    }

    /// Takes a block for what is wanted next: it is live from now on. Allocates nothing.
    #[inline]
    pub(super) fn accept(&mut self, want: Want, block: Block, tick: u32) {
        let granted = block.lease(want.n, self.site, tick);
        match &mut self.asked {
            Asked::One(_, grant) => *grant = Some(granted),
            Asked::Many(many) => {
                many.grants[want.index] = Some(granted);
                many.granted += 1;
            }
        }
    }

    pub(super) fn refuse(&mut self, why: Refused) {
        self.refused = Some(why);
    }

    #[inline]
    pub(super) fn take_refusal(&mut self) -> Option<Refused> {
        self.refused.take()
    }

    /// Queues what was granted so far: no one has seen it.
    pub(super) fn release(&mut self) {
        self.take_back(Class::recycle);
    }

    /// Turns what was granted so far back into blocks: no one has seen it.
    pub(super) fn take_back(&mut self, f: impl FnMut(Block)) {
        match &mut self.asked {
            Asked::One(_, grant) => grant.take().into_iter().map(Handle::into_block).for_each(f),
            Asked::Many(many) => many.take_back_from(0, f),
        }
    }

    /// Turns those back that are wanted together, where only some of them could be had.
    pub(super) fn take_back_together(&mut self, f: impl FnMut(Block)) {
        if let Asked::Many(many) = &mut self.asked {
            many.take_back_from(many.small_from, f);
        }
    }

    /// Passes each grant to `f`, in the order of the sizes; none for zero bytes.
    #[inline]
    pub(super) fn hand_out(&mut self, mut f: impl FnMut(Option<Handle>)) {
        match &mut self.asked {
            Asked::One(_, grant) => f(grant.take()),
            // Nothing is wanted after that.
            Asked::Many(many) => std::mem::take(&mut **many).grants.into_iter().for_each(f),
        }
    }
}

impl Arena {
    /// The class that serves `n` bytes with the fewest pages.
    pub(super) fn frugal_class_for(&self, n: usize) -> Option<&Class> {
        let class = self.class_for(n)?;
        Some(self.compact(class.id()).unwrap_or(class))
    }
}
