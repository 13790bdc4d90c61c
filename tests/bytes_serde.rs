//! The feature `serde`: written as `bytes` writes, read into a pool's memory, and never onto the heap.

use std::panic::{catch_unwind, AssertUnwindSafe};

use bytes::Bytes;
use offheap::{DirectBytes, DirectBytesMut, DirectRope, InPool, Pool};
use serde::de::value::{BytesDeserializer, Error, SeqDeserializer, StrDeserializer};
use serde::de::{Deserialize, DeserializeSeed};
use serde::Serialize;

fn pool() -> Pool {
    Pool::builder()
        .name("read")
        .limit(64 << 10)
        .build()
        .unwrap()
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Message {
    head: DirectBytes,
    body: DirectRope,
    draft: DirectBytesMut,
    flags: Option<DirectBytes>,
}

fn message(pool: &Pool) -> Message {
    let part = |bytes: &[u8]| pool.try_copy_from_slice(bytes).unwrap();
    Message {
        head: part(b"head"),
        body: DirectRope::from_iter([part(b"body in "), part(b"two parts")]),
        draft: part(b"\x00\xff").try_into_mut().unwrap(),
        flags: Some(DirectBytes::new()),
    }
}

#[test]
fn what_is_written_reads_back() {
    let pool = pool();
    let message = message(&pool);
    let json = serde_json::to_string(&message).unwrap();
    let binary = postcard::to_stdvec(&message).unwrap();
    let live = pool.stats().buffers;
    let read: [Message; 2] = pool.deserialize_in(|| {
        [
            serde_json::from_str(&json).unwrap(),
            postcard::from_bytes(&binary).unwrap(),
        ]
    });
    assert_eq!(
        read,
        [&message, &message].map(|message| Message {
            head: message.head.clone(),
            body: message.body.clone(),
            draft: pool
                .try_copy_from_slice(&message.draft)
                .unwrap()
                .try_into_mut()
                .unwrap(),
            flags: message.flags.clone(),
        })
    );
    assert_eq!(
        pool.stats().buffers,
        live + 6,
        "three blocks each; what is empty needs none"
    );
    assert_eq!(read[0].body.part_count(), 1);
}

#[test]
fn is_written_as_bytes_writes() {
    #[derive(Serialize)]
    struct Wrapped<T>(T);

    let pool = pool();
    for contents in [&b""[..], b"hello", &[0, 127, 128, 255]] {
        let ours = pool.try_copy_from_slice(contents).unwrap();
        let unique = pool
            .try_copy_from_slice(contents)
            .unwrap()
            .try_into_mut()
            .unwrap_or_default();
        let theirs = serde_bytes_of(contents);
        assert_eq!(postcard::to_stdvec(&Wrapped(&ours)).unwrap(), theirs);
        assert_eq!(postcard::to_stdvec(&Wrapped(&unique)).unwrap(), theirs);
        assert_eq!(
            postcard::to_stdvec(&DirectRope::from(ours)).unwrap(),
            theirs
        );
    }
}

/// A byte string as postcard has it.
fn serde_bytes_of(contents: &[u8]) -> Vec<u8> {
    let mut expected = vec![contents.len() as u8];
    expected.extend(contents);
    expected
}

#[test]
fn takes_bytes_text_and_sequences() {
    let pool = pool();
    let bytes = BytesDeserializer::<Error>::new(b"hi");
    let text = StrDeserializer::<Error>::new("hi");
    let sequence = SeqDeserializer::<_, Error>::new(b"hi".iter().copied());
    let read: [DirectBytes; 3] = [
        InPool::new(&pool).deserialize(bytes).unwrap(),
        InPool::new(&pool).deserialize(text).unwrap(),
        InPool::new(&pool).deserialize(sequence).unwrap(),
    ];
    assert_eq!(read, ["hi", "hi", "hi"]);
    let long = (0..20_000_u32).map(|i| i as u8);
    let sequence = SeqDeserializer::<_, Error>::new(long.clone());
    let read: DirectBytesMut = InPool::new(&pool).deserialize(sequence).unwrap();
    assert_eq!(read, Bytes::from_iter(long));
}

#[test]
fn fails_where_there_is_no_room_and_says_why() {
    let pool = pool();
    let large = vec![7; 65 << 10];
    let bytes = BytesDeserializer::<Error>::new(&large);
    let error = InPool::<DirectBytes>::new(&pool)
        .deserialize(bytes)
        .unwrap_err();
    assert!(error.to_string().contains("\"read\""), "{error}");
    let sequence = SeqDeserializer::<_, Error>::new(large.iter().copied());
    let error = InPool::<DirectBytes>::new(&pool)
        .deserialize(sequence)
        .unwrap_err();
    assert!(error.to_string().contains("\"read\""), "{error}");
    let error = serde_json::from_str::<DirectBytes>("[1, 2]").unwrap_err();
    assert!(error.to_string().contains("deserialize_in"), "{error}");
    let error = pool
        .deserialize_in(|| serde_json::from_str::<DirectBytes>("[1, 256]"))
        .unwrap_err();
    assert!(error.to_string().contains("256"), "{error}");
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn the_innermost_pool_counts() {
    let (outer, inner) = (pool(), pool());
    let read = || DirectBytes::deserialize(StrDeserializer::<Error>::new("text")).unwrap();
    let both = || (outer.stats().buffers, inner.stats().buffers);
    outer.deserialize_in(|| {
        let _one = read();
        inner.deserialize_in(|| {
            let _two = read();
            assert_eq!(both(), (1, 1));
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            inner.deserialize_in(|| panic!("on purpose"))
        }));
        assert!(panicked.is_err());
        let _three = read();
        assert_eq!(both(), (2, 0));
    });
    assert!(DirectBytes::deserialize(StrDeserializer::<Error>::new("text")).is_err());
}
