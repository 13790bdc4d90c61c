//! Buffers as serde's byte strings.
//!
//! Writing needs no pool. Reading does, and a `Deserializer` knows of none: either it is given one by [`InPool`], the seed, or a pool
//! says for how long all buffers that are read on this thread are its own, by [`Pool::deserialize_in`]. Reading can not wait: where the pool
//! has no room, the deserializer fails with what [`Pool::try_reserve`] says.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::{DirectBytes, DirectBytesMut, DirectRope};
use crate::pool::Pool;

macro_rules! serialize {
    ($($buffer:ident),+) => {$(
        impl Serialize for $buffer {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self)
            }
        }
    )+};
}

serialize!(DirectBytes, DirectBytesMut);

impl Serialize for DirectRope {
    /// One byte string where there is one part, and otherwise a sequence of bytes: no copy is made. Both read back as either.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.part_count() < 2 {
            return serializer.serialize_bytes(bytes::Buf::chunk(self));
        }
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        for byte in self.parts().flatten() {
            sequence.serialize_element(byte)?;
        }
        sequence.end()
    }
}

/// Reads a buffer into a pool's memory: a seed for serde's `DeserializeSeed`.
///
/// `T` is [`DirectBytes`] or [`DirectBytesMut`].
///
/// # Examples
///
/// ```
/// use offheap::{DirectBytes, InPool};
/// use serde::de::DeserializeSeed;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
/// let mut json = serde_json::Deserializer::from_str("[104, 105]");
/// let read: DirectBytes = InPool::new(&pool).deserialize(&mut json)?;
/// assert_eq!(read, "hi");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct InPool<'a, T> {
    pool: &'a Pool,
    read: PhantomData<fn() -> T>,
}

impl<'a, T> InPool<'a, T> {
    /// Buffers are to be read into this pool's memory.
    pub fn new(pool: &'a Pool) -> Self {
        InPool {
            pool,
            read: PhantomData,
        }
    }
}

impl<'de, T: From<DirectBytesMut>> DeserializeSeed<'de> for InPool<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        // Borrowed bytes suffice: they are copied once, into the pool.
        deserializer
            .deserialize_bytes(Bytes(self.pool))
            .map(T::from)
    }
}

thread_local! {
    /// The pools that buffers are read into on this thread, innermost last.
    static POOLS: RefCell<Vec<Pool>> = const { RefCell::new(Vec::new()) };
}

impl Pool {
    /// Buffers that `f` deserializes on this thread are read into this pool's memory, however deep in other types they lie.
    ///
    /// Without it a `DirectBytes` can not be deserialized, and says so: nothing is silently taken from the heap. Calls may be nested; the
    /// innermost counts. Reading does not wait: where the pool has no room, the deserializer fails.
    ///
    /// # Examples
    ///
    /// ```
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Message {
    ///     id: u32,
    ///     payload: offheap::DirectBytes,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = offheap::Pool::builder().limit(1 << 20).build()?;
    /// let payload = pool.try_copy_from_slice(b"hello")?;
    /// let wire = postcard::to_stdvec(&Message { id: 7, payload })?;
    ///
    /// let message: Message = pool.deserialize_in(|| postcard::from_bytes(&wire))?;
    /// assert_eq!((message.id, &message.payload[..]), (7, &b"hello"[..]));
    /// assert!(postcard::from_bytes::<Message>(&wire).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn deserialize_in<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Also where `f` panics.
        struct Leave;

        impl Drop for Leave {
            fn drop(&mut self) {
                // Dropped outside of the borrow: the last handle to a pool does more than that.
                let left = POOLS.with(|pools| pools.borrow_mut().pop());
                drop(left);
            }
        }

        POOLS.with(|pools| pools.borrow_mut().push(self.clone()));
        let _leave = Leave;
        f()
    }
}

fn read_into_current<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<DirectBytesMut, D::Error> {
    let pool = POOLS.with(|pools| pools.borrow().last().cloned());
    let pool = pool.ok_or_else(|| {
        D::Error::custom(
            "a pooled buffer can not be read without a pool; use `Pool::deserialize_in` or the seed `InPool`",
        )
    })?;
    InPool::new(&pool).deserialize(deserializer)
}

macro_rules! deserialize {
    ($($buffer:ident),+) => {$(
        impl<'de> Deserialize<'de> for $buffer {
            /// Into the memory of the pool that [`Pool::deserialize_in`] names.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_into_current(deserializer).map(Into::into)
            }
        }
    )+};
}

deserialize!(DirectBytes, DirectBytesMut, DirectRope);

/// Takes byte strings in each form that `bytes` takes.
struct Bytes<'a>(&'a Pool);

impl<'de> Visitor<'de> for Bytes<'_> {
    type Value = DirectBytesMut;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("byte array")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<DirectBytesMut, E> {
        let mut buffer = self.0.try_reserve(bytes.len()).map_err(E::custom)?;
        buffer.extend_from_slice(bytes);
        Ok(buffer)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DirectBytesMut, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<DirectBytesMut, A::Error> {
        // What a sequence says of its length need not be true.
        let hint = sequence.size_hint().unwrap_or_default().clamp(64, 4096);
        let mut buffer = DirectBytesMut::new();
        while let Some(byte) = sequence.next_element::<u8>()? {
            if buffer.capacity() == 0 {
                buffer = self.0.try_reserve(hint).map_err(A::Error::custom)?;
            }
            buffer.try_grow(1).map_err(A::Error::custom)?;
            buffer.extend([byte]);
        }
        Ok(buffer)
    }
}
