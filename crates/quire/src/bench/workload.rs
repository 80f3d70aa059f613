//! What is asked for: the operations of each workload, as bytes.
//!
//! `reference` is the social network of the design: one profile update (`HSET` of two or three
//! fields) to ten reads (`HGETALL`). A client of Redis that waits for a write far away waits
//! with it for every reply behind it, because replies keep the order of the requests. People
//! who read don't share a connection with people who write; so, where there are connections
//! enough, those of a node are divided:
//! - a **writer** updates its own keys and reads them back (`read-own`): mostly the one that
//!   it wrote last, and every fourth time any of its own, which was written a while ago;
//! - a **reader** reads any key (`read`).
//!
//! For each update there are one `read-own` and nine `read`. Keys are dealt out to the
//! connections that write, so that each key has one writer.
//!
//! The workloads of YCSB are in `ycsb`. There every connection reads and writes any record.

use super::{
    encode::{put_bulk, put_len, put_number, put_numbered},
    random::Random,
    ycsb::{self, Records},
};
use clap::ValueEnum;

/// The field that carries the number that the checks compare.
pub(super) const NUMBER_FIELD: &[u8] = b"bench_number";

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One HSET of 2–3 fields to ten HGETALL, on hashes `profile:N`.
    Reference,
    /// SET of strings `key:N`.
    Set,
    /// GET of strings `key:N`.
    Get,
    /// HSET of 2–3 fields on hashes `profile:N`.
    Hset,
    /// YCSB's workload A: half HGETALL, half HSET of one field, on zipfian records `user<hash>`.
    YcsbA,
    /// YCSB's workload B: 95 % HGETALL, 5 % HSET of one field, on zipfian records `user<hash>`.
    YcsbB,
}

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::Reference => "reference",
            Workload::Set => "set",
            Workload::Get => "get",
            Workload::Hset => "hset",
            Workload::YcsbA => "ycsb-a",
            Workload::YcsbB => "ycsb-b",
        }
    }

    /// The part of YCSB's operations that are reads; None for other workloads.
    fn ycsb_reads(self) -> Option<f64> {
        match self {
            Workload::YcsbA => Some(0.5),
            Workload::YcsbB => Some(0.95),
            Workload::Reference | Workload::Set | Workload::Get | Workload::Hset => None,
        }
    }

    /// Whether it is one of YCSB's, whose records are kept from run to run and all there
    /// before the measuring begins.
    pub(super) fn is_ycsb(self) -> bool {
        self.ycsb_reads().is_some()
    }

    /// How many keys there are, unless that is said.
    pub(super) fn keys_default(self) -> u32 {
        if self.is_ycsb() { 100_000 } else { 10_000 }
    }

    /// Bytes of a value or a field, unless that is said.
    pub(super) fn value_bytes_default(self) -> u32 {
        if self.is_ycsb() { 100 } else { 300 }
    }
}

/// A kind of operation, as the report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// `HSET`.
    Update,
    /// `HGETALL` of any key.
    Read,
    /// `HGETALL` of a key that the connection writes itself.
    ReadOwn,
    /// `SET`.
    Set,
    /// `GET`.
    Get,
}

impl Operation {
    pub(super) const ALL: [Operation; 5] = [
        Operation::Update,
        Operation::Read,
        Operation::ReadOwn,
        Operation::Set,
        Operation::Get,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::Update => "update",
            Operation::Read => "read",
            Operation::ReadOwn => "read-own",
            Operation::Set => "set",
            Operation::Get => "get",
        }
    }

    pub(super) fn is_write(self) -> bool {
        matches!(self, Operation::Update | Operation::Set)
    }
}

/// A connection's part in the reference workload. In the others there is but one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Writer,
    Reader,
    Both,
}

impl Part {
    /// The part of connection `n` of a node, or of any where they are not divided.
    pub(super) fn of(workload: Workload, divided: bool, n: usize) -> Part {
        match workload {
            Workload::Reference if divided && n.is_multiple_of(2) => Part::Writer,
            Workload::Reference if divided => Part::Reader,
            _ => Part::Both,
        }
    }

    pub(super) fn writes(self) -> bool {
        self != Part::Reader
    }

    /// How many of eleven operations all connections of this part do together.
    pub(super) fn weight(self) -> f64 {
        match self {
            Part::Writer => 2.0,
            Part::Reader => 9.0,
            Part::Both => 11.0,
        }
    }
}

/// One request that was written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) key: u32,
    /// What a write wrote; 0 for a read.
    pub(super) number: u64,
}

/// Who owns which keys: writer `w` of `writers` owns the keys that leave `w` when divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    /// None for a connection that only reads.
    pub(super) writer: Option<u32>,
    pub(super) writers: u32,
    /// At least `writers`.
    pub(super) keys: u32,
}

impl Ownership {
    pub(super) fn owns(&self, key: u32) -> bool {
        self.writer == Some(key % self.writers)
    }

    /// The keys that are this connection's own.
    pub(super) fn own(&self) -> impl Iterator<Item = u32> + use<> {
        let (first, step) = (self.writer.unwrap_or(self.keys), self.writers as usize);
        (first..self.keys).step_by(step)
    }
}

/// The stream of one connection's requests.
#[derive(Debug)]
pub(super) struct Generator {
    workload: Workload,
    part: Part,
    pub(super) ownership: Ownership,
    value: Vec<u8>,
    /// The last number written.
    number: u64,
    last_own: u32,
    own_reads: u64,
    turn: u64,
    random: Random,
    /// In the workloads of YCSB.
    records: Option<Records>,
}

impl Generator {
    /// Numbers written start above `number`, which must be greater than any run's before.
    pub(super) fn new(
        workload: Workload,
        part: Part,
        ownership: Ownership,
        value_bytes: usize,
        number: u64,
        seed: u64,
    ) -> Self {
        Generator {
            workload,
            part,
            value: b"abcdefghijklmnopqrstuvwxyz "
                .iter()
                .copied()
                .cycle()
                .take(value_bytes)
                .collect(),
            number,
            last_own: ownership.writer.unwrap_or(0),
            own_reads: 0,
            ownership,
            turn: seed,
            random: Random::new(seed),
            records: workload
                .ycsb_reads()
                .map(|reads| Records::new(reads, ownership.keys, value_bytes)),
        }
    }

    /// Appends the next request to `out`.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Request {
        if let Some(records) = &self.records {
            return records.next(&mut self.random, out);
        }
        self.turn += 1;
        let operation = match (self.workload, self.part) {
            (Workload::Set, _) => Operation::Set,
            (Workload::Get, _) => Operation::Get,
            (Workload::Hset, _) => Operation::Update,
            // Above: they have records.
            (Workload::YcsbA | Workload::YcsbB, _) => Operation::Read,
            (Workload::Reference, Part::Reader) => Operation::Read,
            (Workload::Reference, Part::Writer) => match self.turn % 2 {
                0 => Operation::Update,
                _ => Operation::ReadOwn,
            },
            (Workload::Reference, Part::Both) => match self.turn % 11 {
                0 => Operation::Update,
                1 => Operation::ReadOwn,
                _ => Operation::Read,
            },
        };
        let key = match operation {
            Operation::Update | Operation::Set => self.some_own_key(),
            Operation::ReadOwn => {
                self.own_reads += 1;
                match self.own_reads % 4 {
                    0 => self.some_own_key(),
                    _ => self.last_own,
                }
            }
            Operation::Read | Operation::Get => self.random.below(self.ownership.keys),
        };
        if operation.is_write() {
            self.last_own = key;
            return self.write(operation, key, out);
        }
        let command: &[u8] = match operation {
            Operation::Get => b"*2\r\n$3\r\nGET\r\n",
            _ => b"*2\r\n$7\r\nHGETALL\r\n",
        };
        out.extend_from_slice(command);
        self.put_key(key, out);
        Request {
            operation,
            key,
            number: 0,
        }
    }

    /// Appends the write that gives `key` its first value.
    pub(super) fn fill(&mut self, key: u32, out: &mut Vec<u8>) -> Request {
        if let Some(records) = &self.records {
            return records.load(key, &mut self.random, out);
        }
        match self.workload {
            Workload::Set | Workload::Get => self.write(Operation::Set, key, out),
            _ => {
                self.number += 1;
                out.extend_from_slice(b"*8\r\n$4\r\nHSET\r\n");
                self.put_key(key, out);
                put_bulk(NUMBER_FIELD, out);
                put_number(self.number, out);
                put_bulk(b"about", out);
                put_bulk(&self.value, out);
                put_bulk(b"city", out);
                put_bulk(b"Lisbon", out);
                Request {
                    operation: Operation::Update,
                    key,
                    number: self.number,
                }
            }
        }
    }

    /// Appends the question how many fields the hash at `key` has.
    pub(super) fn count_fields(&self, key: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"*2\r\n$4\r\nHLEN\r\n");
        self.put_key(key, out);
    }

    pub(super) fn workload(&self) -> Workload {
        self.workload
    }

    fn write(&mut self, operation: Operation, key: u32, out: &mut Vec<u8>) -> Request {
        self.number += 1;
        let number = self.number;
        if operation == Operation::Set {
            out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
            self.put_key(key, out);
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(number).as_bytes();
            let filler = &self.value[..self.value.len().saturating_sub(digits.len() + 1)];
            put_len(b'$', digits.len() + 1 + filler.len(), out);
            out.extend_from_slice(digits);
            out.push(b':');
            out.extend_from_slice(filler);
            out.extend_from_slice(b"\r\n");
        } else {
            // Two fields, and a third for every other update.
            let third = number.is_multiple_of(2);
            put_len(b'*', if third { 8 } else { 6 }, out);
            out.extend_from_slice(b"$4\r\nHSET\r\n");
            self.put_key(key, out);
            put_bulk(NUMBER_FIELD, out);
            put_number(number, out);
            put_bulk(b"status", out);
            put_bulk(&self.value[..self.value.len().min(64)], out);
            if third {
                put_bulk(b"city", out);
                put_bulk(b"Porto", out);
            }
        }
        Request {
            operation,
            key,
            number,
        }
    }

    fn put_key(&self, key: u32, out: &mut Vec<u8>) {
        match self.workload {
            Workload::Set | Workload::Get => put_numbered(b"key:", u64::from(key), out),
            Workload::Reference | Workload::Hset => {
                put_numbered(b"profile:", u64::from(key), out);
            }
            Workload::YcsbA | Workload::YcsbB => ycsb::put_key(key, out),
        }
    }

    fn some_own_key(&mut self) -> u32 {
        let Ownership {
            writer,
            writers,
            keys,
        } = self.ownership;
        let writer = writer.unwrap_or(0);
        let owned = (keys - writer).div_ceil(writers);
        writer + self.random.below(owned.max(1)) * writers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scan;

    fn generator(workload: Workload, part: Part, writer: Option<u32>) -> Generator {
        let ownership = Ownership {
            writer,
            writers: 3,
            keys: 10,
        };
        Generator::new(workload, part, ownership, 100, 1_000, 7)
    }

    fn count(generator: &mut Generator, of: u32) -> [u32; 5] {
        let mut counts = [0; 5];
        for _ in 0..of {
            let request = generator.next(&mut Vec::new());
            counts[request.operation as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_reference_is_one_update_to_ten_reads_either_way() {
        let mut both = generator(Workload::Reference, Part::Both, Some(0));
        assert_eq!(count(&mut both, 110), [10, 90, 10, 0, 0]);
        let mut writer = generator(Workload::Reference, Part::Writer, Some(0));
        let mut reader = generator(Workload::Reference, Part::Reader, None);
        assert_eq!(count(&mut writer, 20), [10, 0, 10, 0, 0]);
        assert_eq!(count(&mut reader, 90), [0, 90, 0, 0, 0]);
        assert_eq!(Part::Writer.weight() + Part::Reader.weight(), 11.0);
    }

    #[test]
    fn ycsb_reads_and_updates_any_record_in_its_proportions() {
        for (workload, reads) in [
            (Workload::YcsbA, 4_800..5_200),
            (Workload::YcsbB, 9_400..9_600),
        ] {
            let mut one = generator(workload, Part::of(workload, true, 1), Some(0));
            let [update, read, others @ ..] = count(&mut one, 10_000);
            assert!(reads.contains(&read), "{workload:?}: {read}");
            assert_eq!((update + read, others), (10_000, [0; 3]));
            let mut out = Vec::new();
            one.count_fields(5, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(
                text.contains("HLEN\r\n$") && text.contains("\r\nuser"),
                "{text}"
            );
        }
    }

    #[test]
    fn writes_go_to_own_keys_with_growing_numbers_and_are_read_back() {
        let mut writer = generator(Workload::Reference, Part::Writer, Some(1));
        let (mut last, mut seen) = (1_000, Vec::new());
        let (mut written, mut read_at_once, mut read_later) = (None, 0, 0);
        for _ in 0..200 {
            let mut out = Vec::new();
            let request = writer.next(&mut out);
            // A request is an array of strings: the scanner reads it as it reads a reply.
            assert_eq!(scan::reply_len(&out), Ok(Some(out.len())));
            match request.operation {
                Operation::Update => {
                    assert!(writer.ownership.owns(request.key) && request.number > last);
                    last = request.number;
                    written = Some(request.key);
                    seen.push(request.key);
                }
                Operation::ReadOwn => {
                    assert!(writer.ownership.owns(request.key));
                    match written {
                        Some(key) if key == request.key => read_at_once += 1,
                        _ => read_later += 1,
                    }
                }
                other => panic!("a writer sent {other:?}"),
            }
        }
        assert!(
            read_at_once >= 70 && read_later >= 5,
            "{read_at_once} {read_later}"
        );
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 4, 7]);
        assert_eq!(writer.ownership.own().collect::<Vec<_>>(), [1, 4, 7]);
    }

    #[test]
    fn requests_are_what_a_server_reads() {
        let mut out = Vec::new();
        let request = generator(Workload::Get, Part::Both, Some(0)).next(&mut out);
        let key = format!("key:{}", request.key);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
        );
        let mut out = Vec::new();
        let set = generator(Workload::Set, Part::Both, Some(0)).next(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(&format!("$100\r\n{}:abc", set.number)),
            "{text}"
        );
    }

    #[test]
    fn every_key_has_one_owner() {
        for key in 0..10 {
            let owners = (0..3).filter(|w| {
                Ownership {
                    writer: Some(*w),
                    writers: 3,
                    keys: 10,
                }
                .owns(key)
            });
            assert_eq!(owners.count(), 1);
        }
    }
}
