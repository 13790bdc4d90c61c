//! Comparison and hashing: by content, with everything that `bytes` compares with.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::{Bytes, BytesMut};

use super::{format, DirectBytes, DirectBytesMut};

macro_rules! compare {
    ($this:ty; $($other:ty => $bytes:ident),+ $(,)?) => {$(
        impl PartialEq<$other> for $this {
            fn eq(&self, other: &$other) -> bool {
                self[..] == *other.$bytes()
            }
        }

        impl PartialOrd<$other> for $this {
            fn partial_cmp(&self, other: &$other) -> Option<Ordering> {
                self[..].partial_cmp(other.$bytes())
            }
        }
    )+ compare_reversed!($this; $($other => $bytes),+);};
}

macro_rules! compare_reversed {
    ($this:ty; $($other:ty => $bytes:ident),+ $(,)?) => {$(
        impl PartialEq<$this> for $other {
            fn eq(&self, other: &$this) -> bool {
                *self.$bytes() == other[..]
            }
        }

        impl PartialOrd<$this> for $other {
            fn partial_cmp(&self, other: &$this) -> Option<Ordering> {
                (*self.$bytes()).partial_cmp(&other[..])
            }
        }
    )+};
}

macro_rules! by_content {
    ($this:ident) => {
        compare!($this;
            [u8] => as_ref,
            str => as_bytes,
            Vec<u8> => as_slice,
            String => as_bytes,
            Bytes => as_ref,
            BytesMut => as_ref,
        );
        compare_reversed!($this; &[u8] => as_ref, &str => as_bytes);

        impl<'a, T: ?Sized> PartialEq<&'a T> for $this
        where
            $this: PartialEq<T>,
        {
            fn eq(&self, other: &&'a T) -> bool {
                *self == **other
            }
        }

        impl<'a, T: ?Sized> PartialOrd<&'a T> for $this
        where
            $this: PartialOrd<T>,
        {
            fn partial_cmp(&self, other: &&'a T) -> Option<Ordering> {
                self.partial_cmp(*other)
            }
        }

        impl PartialEq for $this {
            fn eq(&self, other: &Self) -> bool {
                self[..] == other[..]
            }
        }

        impl Eq for $this {}

        impl PartialOrd for $this {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $this {
            fn cmp(&self, other: &Self) -> Ordering {
                self[..].cmp(&other[..])
            }
        }

        impl Hash for $this {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self[..].hash(state);
            }
        }

        impl Borrow<[u8]> for $this {
            fn borrow(&self) -> &[u8] {
                self
            }
        }

        impl AsRef<[u8]> for $this {
            fn as_ref(&self) -> &[u8] {
                self
            }
        }

        impl fmt::Debug for $this {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                format::debug(self, f)
            }
        }

        impl fmt::LowerHex for $this {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::UpperHex for $this {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
            }
        }
    };
}

by_content!(DirectBytes);
by_content!(DirectBytesMut);
compare!(DirectBytes; DirectBytesMut => as_ref);
