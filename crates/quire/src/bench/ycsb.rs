//! The core workloads A and B of YCSB (`CoreWorkload`, workloada and workloadb), as requests.
//!
//! In: random numbers. Out: the next request's bytes, and what it asks for.
//! - A **record** is a hash of ten fields `field0` … `field9` of 100 random printable bytes
//!   each, at the key `user<hash>`: the hash of the record's number, so that neighbours in
//!   number are none in key. The names are those that YCSB gives.
//! - A **read** reads all fields (`HGETALL`), an **update** writes one, drawn evenly (`HSET`);
//!   A reads half of the time, B 95 %. Each operation is drawn, so proportions hold on average.
//! - Records are drawn zipfian and scrambled ([`Scrambled`]), for reads and updates alike.
//!
//! Any client updates any record, so a record's values have no order that a reader could know:
//! there is nothing that the sessions' promises could be held against.

use super::{
    encode::{put_bulk, put_len, put_numbered},
    random::Random,
    workload::{Operation, Request},
    zipfian::{Scrambled, hash},
};

/// Fields of a record.
pub(super) const FIELDS: u32 = 10;

/// What one client asks of the records.
#[derive(Clone, Debug)]
pub(super) struct Records {
    /// The part of the operations that are reads.
    reads: f64,
    popular: Scrambled,
    field_bytes: usize,
}

impl Records {
    pub(super) fn new(reads: f64, records: u32, field_bytes: usize) -> Self {
        Records {
            reads,
            popular: Scrambled::new(records),
            field_bytes,
        }
    }

    /// Appends the next request to `out`.
    pub(super) fn next(&self, random: &mut Random, out: &mut Vec<u8>) -> Request {
        let is_read = random.fraction() < self.reads;
        let record = self.popular.record(random.fraction());
        if is_read {
            out.extend_from_slice(b"*2\r\n$7\r\nHGETALL\r\n");
            put_key(record, out);
            return request(Operation::Read, record);
        }
        out.extend_from_slice(b"*4\r\n$4\r\nHSET\r\n");
        put_key(record, out);
        let field = random.below(FIELDS);
        self.put_field(field, random, out);
        request(Operation::Update, record)
    }

    /// Appends the write of a whole `record`.
    pub(super) fn load(&self, record: u32, random: &mut Random, out: &mut Vec<u8>) -> Request {
        put_len(b'*', 2 + 2 * FIELDS as usize, out);
        put_bulk(b"HSET", out);
        put_key(record, out);
        for field in 0..FIELDS {
            self.put_field(field, random, out);
        }
        request(Operation::Update, record)
    }

    /// A field's name and a new value. Values are random, because a store that compresses
    /// would otherwise be measured with data that nobody has.
    fn put_field(&self, field: u32, random: &mut Random, out: &mut Vec<u8>) {
        put_numbered(b"field", u64::from(field), out);
        put_len(b'$', self.field_bytes, out);
        let end = out.len() + self.field_bytes;
        while out.len() < end {
            // Eight characters of six random bits each, from the blank on.
            let eight = random.bits().to_le_bytes().map(|byte| b' ' + (byte & 63));
            out.extend_from_slice(&eight[..eight.len().min(end - out.len())]);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The key of a record, as one argument.
pub(super) fn put_key(record: u32, out: &mut Vec<u8>) {
    put_numbered(b"user", hash(u64::from(record)), out);
}

fn request(operation: Operation, key: u32) -> Request {
    Request {
        operation,
        key,
        number: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scan;

    #[test]
    fn keys_are_those_of_ycsb() {
        for (record, key) in [
            (0, "user6284781860667377211"),
            (1, "user8517097267634966620"),
        ] {
            let mut out = Vec::new();
            put_key(record, &mut out);
            assert_eq!(out, format!("${}\r\n{key}\r\n", key.len()).as_bytes());
        }
    }

    #[test]
    fn the_mix_is_in_proportion() {
        for (reads, least, most) in [(0.5, 49_000, 51_000), (0.95, 94_500, 95_500)] {
            let (records, mut random) = (Records::new(reads, 1_000, 100), Random::new(9));
            let mut out = Vec::new();
            let count = (0..100_000)
                .filter(|_| {
                    out.clear();
                    let request = records.next(&mut random, &mut out);
                    assert!(request.key < 1_000);
                    request.operation == Operation::Read
                })
                .count();
            assert!((least..most).contains(&count), "{count} of 100000 read");
        }
    }

    #[test]
    fn an_update_writes_one_field_and_any_of_them() {
        let (records, mut random) = (Records::new(0.0, 10, 100), Random::new(4));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut out = Vec::new();
            records.next(&mut random, &mut out);
            assert_eq!(scan::reply_len(&out), Ok(Some(out.len())));
            let text = String::from_utf8(out).unwrap();
            let words: Vec<&str> = text.split("\r\n").collect();
            assert_eq!((words[0], words[2], words[7]), ("*4", "HSET", "$100"));
            assert!(words[4].starts_with("user") && words[8].len() == 100);
            seen.insert(words[6].to_string());
        }
        let all: Vec<String> = (0..10).map(|n| format!("field{n}")).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_record_is_loaded_whole_and_its_fields_differ() {
        for field_bytes in [0, 1, 100, 103] {
            let mut out = Vec::new();
            let records = Records::new(0.5, 10, field_bytes);
            records.load(3, &mut Random::new(1), &mut out);
            assert_eq!(scan::reply_len(&out), Ok(Some(out.len())));
            let text = String::from_utf8(out).unwrap();
            let words: Vec<&str> = text.split("\r\n").collect();
            assert_eq!((words[0], words.len()), ("*22", 46));
            let values: Vec<&str> = words[8..].iter().step_by(4).copied().collect();
            assert_eq!(values.len(), 10);
            assert!(values.iter().all(|value| value.len() == field_bytes));
            assert!(field_bytes < 100 || values[0] != values[1]);
        }
    }
}
