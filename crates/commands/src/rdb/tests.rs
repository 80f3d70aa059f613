//! Payloads that Redis did not write; those that it did are in the transcript.

use super::*;
use proptest::prelude::*;

/// A payload whose version and checksum hold.
fn sealed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut payload = [&[kind], body, &VERSION.to_le_bytes()].concat();
    payload.extend_from_slice(&crc64::of(&payload).to_le_bytes());
    payload
}

fn refusal(payload: &[u8]) -> Error {
    decode(payload).err().unwrap()
}

/// A string in a payload.
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_length(&mut out, bytes.len());
    [out, bytes.to_vec()].concat()
}

/// A listpack of short texts.
fn listpack(texts: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in texts {
        body.push(0x80 | text.len() as u8);
        body.extend_from_slice(text.as_bytes());
        body.push(text.len() as u8 + 1);
    }
    body.push(0xff);
    let mut out = (body.len() as u32 + 6).to_le_bytes().to_vec();
    out.extend_from_slice(&(texts.len() as u16).to_le_bytes());
    [out, body].concat()
}

#[test]
fn what_is_damaged_or_too_new_is_refused() {
    let good = sealed(STRING, b"\x01a");
    assert!(decode(&good).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(refusal(&bad), Error::Checksum, "byte {at}");
        assert_eq!(refusal(&good[..at]), Error::Checksum);
    }
    // Without version and checksum.
    let mut newer = good[..good.len() - 10].to_vec();
    newer.extend_from_slice(&(VERSION + 1).to_le_bytes());
    newer.extend_from_slice(&crc64::of(&newer).to_le_bytes());
    assert_eq!(refusal(&newer), Error::Checksum);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (kind, body) in [
        (STRING, &b""[..]),
        (STRING, b"\x05abc"),
        (STRING, b"\x80\xff\xff\xff\xff"),
        (STRING, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
        (STRING, b"\x82"),
        (STRING, b"\xc4"),
        (STRING, b"\xc2\x01"),
        // LZF: too short, too long, from before the beginning, a claim of much.
        (STRING, b"\xc3\x02\x05\x00a"),
        (STRING, b"\xc3\x03\x01\x01ab"),
        (STRING, b"\xc3\x02\x03\x20\x00"),
        (STRING, b"\xc3\x02\x80\xff\xff\xff\xff\x00a"),
        (HASH, b"\x00"),
        (HASH, b"\x02\x01a\x01b"),
        (HASH, b"\x02\x01a\x01b\x01a\x01c"),
        (HASH, b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff"),
        (8, b""),
        (99, b"\x01a"),
    ] {
        let refused = refusal(&sealed(kind, body));
        assert_eq!(refused, Error::Format, "{kind} {}", body.escape_ascii());
    }
    for texts in [&[][..], &["a"], &["a", "1", "a", "2"], &["a", "1", "b"]] {
        let body = string(&listpack(texts));
        assert_eq!(
            refusal(&sealed(HASH_LISTPACK, &body)),
            Error::Format,
            "{texts:?}"
        );
    }
    assert!(decode(&sealed(HASH_LISTPACK, &string(&listpack(&["a", "1"])))).is_ok());
}

#[test]
fn other_types_are_named() {
    for (kind, name) in [
        (1, "list"),
        (18, "list"),
        (11, "set"),
        (17, "sorted set"),
        (19, "stream"),
    ] {
        assert_eq!(refusal(&sealed(kind, b"")), Error::Type(name));
    }
}

proptest! {
    #[test]
    fn a_value_reads_back(
        value in proptest::collection::vec(any::<u8>(), 0..400),
        numbers in proptest::collection::btree_map(any::<i16>(), any::<i64>(), 1..20),
    ) {
        let text = value.clone();
        match decode(&encode(&Value::String(value.into()))) {
            Ok(Value::String(back)) => prop_assert_eq!(back, text),
            _ => prop_assert!(false),
        }
        let text = |n: i64| Bytes::from(n.to_string());
        let mut fields: Vec<(Bytes, Bytes)> =
            numbers.into_iter().map(|(f, v)| (text(f.into()), text(v))).collect();
        fields.sort_unstable();
        match decode(&encode(&Value::Hash(fields.clone()))) {
            Ok(Value::Hash(back)) => prop_assert_eq!(back, fields),
            _ => prop_assert!(false),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        kind in 0u8..20,
        body in proptest::collection::vec(any::<u8>(), 0..80),
        compact in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let _ = decode(&body);
        let _ = decode(&sealed(kind, &body));
        // Behind sizes that are right, so that more of it is looked at.
        for head in [4, 8] {
            let size = (head + 2 + compact.len() as u32 + 1).to_le_bytes();
            let list = [&size[..], &[0; 4][..head as usize - 4], &[0xff, 0xff], &compact, &[0xff]].concat();
            let _ = decode(&sealed(kind, &string(&list)));
        }
    }

    #[test]
    fn damage_to_a_listpack_never_panics(at in 0usize..30, byte: u8) {
        let mut list = listpack(&["field", "value", "other", "1"]);
        let at = at % list.len();
        list[at] = byte;
        let _ = decode(&sealed(HASH_LISTPACK, &string(&list)));
    }
}
