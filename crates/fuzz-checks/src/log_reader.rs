//! The files of a log, with any bytes in them: opening it ends, without more memory than the
//! files are long; damage is refused and changes nothing; and what is read back once is read
//! back by every later opening, also after a loss of power, and by `read`.
//!
//! # The input
//! ```text
//! flags u8   1: put checksums right   2: also the chain of checksums   4: also the places
//!            (sequence numbers, positions)   8: the power is lost after the first opening
//!            16: the log is closed properly before the second
//! files      tag u8: the lowest 3 bits are its number, the next 2 its kind (0, 3: a segment,
//!            1 a spare, 2 one that was being made); length u16 LE; bytes: the first 64 are a
//!            segment's header, what follows stands behind the header's page
//! ```

use crate::input::{parts, put, put_crc, u32_at};
use model::{Now, codec::NUMBER_MAX};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc};
use storage::{
    disk::{Disk, SimDisk},
    log::{Log, LogError, Lsn, OpenError, Options, Record, SyncPolicy},
};

const SEGMENT_HEADER: usize = 4096;
const BATCH_HEADER: usize = 64;
const BATCH_MAGIC: &[u8] = b"QBAT";
/// A header may ask for a file of this many bytes; zeros are put behind what the input has.
const FILE_BYTES_MAX: u64 = 32 << 10;
const CHECKSUMS: u8 = 1;
const CHAIN: u8 = 2;
const PLACES: u8 = 4;
const POWER_LOSS: u8 = 8;
const CLOSE: u8 = 16;

type Records = Vec<(Lsn, Record)>;
type Files = BTreeMap<String, Vec<u8>>;

/// See the module.
pub fn check(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else {
        return;
    };
    let disk = disk(&files(*flags, rest));
    let before = contents(&disk);
    let (mut log, mut records) = match open(&disk) {
        Err(OpenError::Log(error)) => {
            assert!(
                matches!(error, LogError::Corrupt { .. } | LogError::Version { .. }),
                "{error}"
            );
            assert_eq!(before, contents(&disk), "a refusal changes nothing");
            return;
        }
        Ok(opened) => opened,
    };
    if log.incarnation().max(log.tip().0) > NUMBER_MAX / 2 - (1 << 20) {
        return; // Numbers that no log reaches, and few are left: it is refused when they end.
    }
    assert_eq!(read(&log), records);
    let tip = log.tip();
    let at = log.append(7, 1, &[b"one ", b"more"]).unwrap();
    assert!(at > tip);
    while log.written() < log.tip() {
        let job = log.take_flush(Now::at_ms(0)).unwrap();
        let (written, synced) = job.run();
        log.written_to(written).unwrap();
        log.synced(synced).unwrap();
    }
    assert_eq!(log.acknowledgeable(), at);
    records.push((
        at,
        Record {
            stream: 7,
            kind: 1,
            body: "one more".into(),
        },
    ));
    assert_eq!(read(&log), records);
    for round in 1..3 {
        let (incarnation, cut, oldest) = (log.incarnation(), log.cut(), log.oldest());
        if flags & CLOSE != 0 {
            log.close().unwrap();
        } else {
            drop(log);
        }
        if flags & POWER_LOSS != 0 {
            disk.crash(round);
        }
        let again = open(&disk).expect("what opened once opens again");
        log = again.0;
        assert_eq!(again.1, records);
        assert_eq!(read(&log), records);
        assert_eq!(log.incarnation(), incarnation + 1);
        assert_eq!((log.cut(), log.oldest()), (cut, oldest));
    }
}

fn open(disk: &SimDisk) -> Result<(Log, Records), OpenError<Infallible>> {
    let options = Options {
        segment_bytes: 10 << 10,
        batch_bytes_max: 2 << 10,
        pending_bytes_max: 16 << 10,
        sync: SyncPolicy::Always,
    };
    let mut records = Records::new();
    let log = Log::open(Arc::new(disk.clone()), options, &mut |lsn, record| {
        records.push((lsn, record));
        Ok(())
    })?;
    Ok((log, records))
}

fn read(log: &Log) -> Records {
    let mut records = Records::new();
    log.read(log.oldest(), usize::MAX, &mut |lsn, record| {
        records.push((lsn, record));
        true
    })
    .unwrap();
    records
}

fn disk(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    for (name, bytes) in files {
        let file = disk.create(name, bytes.len() as u64).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync().unwrap();
    }
    disk.sync_dir().unwrap();
    disk
}

/// The segments, as they are on the disk.
fn contents(disk: &SimDisk) -> Files {
    let names = disk.list().unwrap().into_iter();
    let segments = names.filter(|name| name.ends_with(".log"));
    segments
        .map(|name| {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(0, &mut bytes).unwrap();
            (name, bytes)
        })
        .collect()
}

fn files(flags: u8, rest: &[u8]) -> Files {
    let mut files = Files::new();
    for (tag, bytes) in parts(rest) {
        let extension = match tag >> 3 & 3 {
            1 => "spare",
            2 => "new",
            _ => "log",
        };
        let (header, batches) = bytes.split_at(bytes.len().min(64));
        let mut file = header.to_vec();
        file.resize(SEGMENT_HEADER, 0);
        file.extend_from_slice(batches);
        let wanted = u64_at(&file, 32).min(FILE_BYTES_MAX) as usize;
        file.resize(file.len().max(wanted), 0);
        if extension == "spare" {
            keep_former(&mut file, u64::from(tag & 7));
        }
        files.insert(format!("{:020}.{extension}", tag & 7), file);
    }
    if flags & CHECKSUMS != 0 {
        mend(flags, &mut files);
    }
    files
}

/// Numbers of segments never come again: no file holds batches of one that is still to come.
fn keep_former(spare: &mut [u8], sequence: u64) {
    for at in 0..spare.len() {
        if spare[at..].starts_with(BATCH_MAGIC) && u64_at(spare, at + 40) > sequence {
            spare[at] = 0;
        }
    }
}

/// What the next header must say of the one before.
struct Before {
    chain: u32,
    position: u64,
}

/// Makes the checksums of segments and batches right, and what else `flags` say.
fn mend(flags: u8, files: &mut Files) {
    let mut before: Option<Before> = None;
    let segments = files.iter_mut().filter(|(name, _)| name.ends_with(".log"));
    for (name, file) in segments {
        if flags & PLACES != 0 {
            let sequence: u64 = name[..20].parse().unwrap();
            put(file, 16, &sequence.to_le_bytes());
            if let Some(before) = &before {
                put(file, 24, &before.position.to_le_bytes());
            }
        }
        if let (true, Some(before)) = (flags & CHAIN != 0, &before) {
            put(file, 48, &before.chain.to_le_bytes());
        }
        put_crc(file, 0, 60);
        let first = Before {
            chain: u32_at(file, 48).unwrap_or(0),
            position: u64_at(file, 24),
        };
        before = Some(mend_batches(flags, file, first));
    }
}

fn mend_batches(flags: u8, file: &mut [u8], mut before: Before) -> Before {
    let sequence: [u8; 8] = file[16..24].try_into().unwrap();
    let mut at = SEGMENT_HEADER;
    while file.get(at..at + 4) == Some(BATCH_MAGIC) && at + BATCH_HEADER <= file.len() {
        let (header, payload) = file[at..].split_at_mut(BATCH_HEADER);
        let length = u32_at(header, 8).unwrap_or(0) as usize;
        let Some(payload) = payload.get(..length) else {
            break;
        };
        put(header, 52, &crc32c::crc32c(payload).to_le_bytes());
        if flags & CHAIN != 0 {
            put(header, 48, &before.chain.to_le_bytes());
        }
        if flags & PLACES != 0 {
            put(header, 16, &before.position.to_le_bytes());
            put(header, 40, &sequence);
        }
        let chain = put_crc(header, 0, 60);
        let position = before.position.wrapping_add((BATCH_HEADER + length) as u64);
        before = Before { chain, position };
        at += BATCH_HEADER + length;
    }
    before
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    eight.map_or(0, u64::from_le_bytes)
}

/// The input whose files these are, if what they hold behind their first 64 bytes begins
/// behind the header's page.
pub fn input(flags: u8, files: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![flags];
    for (tag, file) in files {
        let used = file.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        let header = &file[..file.len().min(64)];
        let batches = file.get(SEGMENT_HEADER..used).unwrap_or_default();
        out.push(*tag);
        out.extend_from_slice(&((header.len() + batches.len()) as u16).to_le_bytes());
        out.extend_from_slice(header);
        out.extend_from_slice(batches);
    }
    out
}
