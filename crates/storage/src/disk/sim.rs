//! A disk in memory that remembers what is durable and what is only written.
//!
//! Everything is decided by seeds and by counts of calls, so a run can be repeated exactly.
//! [`SimDisk::crash`] is a loss of power: every sector written since its file's last sync ends
//! up with one of the contents it had since then, the durable one included; so writes are
//! kept, lost, torn and reordered. Names come back the same way: by half of the seeds as a
//! prefix of the changes (what a journal does), by the others as any subset of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, SECTOR_BYTES};

type Sector = [u8; SECTOR_BYTES];
const ZERO: Sector = [0; SECTOR_BYTES];

/// A failure that strikes once, at the next call of its kind, and that the disk survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next write fails with EIO, half of it written.
    WriteFails,
    /// The next write fails with ENOSPC, half of it written.
    WriteHasNoSpace,
    /// The next creation of a file fails with EMFILE.
    CreateHasNoDescriptor,
    /// The next sync of a file fails with EIO, and so does the next by each other handle that is
    /// open then. As on Linux, what it should have made durable is thereafter taken for clean:
    /// later syncs succeed and don't save it.
    SyncFails,
}

/// The disk. Clones share one state.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names since the last sync of the directory.
    changes: Vec<Change>,
    /// Grows at each crash; handles of an earlier one are dead.
    generation: u64,
    calls: u64,
    fail_after: Option<u64>,
    fault: Option<Fault>,
    capacity_bytes: Option<u64>,
}

/// One file's contents.
#[derive(Default)]
struct Inode {
    len: u64,
    durable_len: u64,
    /// Absent sectors are zeros.
    sectors: BTreeMap<u64, Sector>,
    durable: BTreeMap<u64, Sector>,
    /// Every content that a sector had since the last sync, oldest first.
    unsynced: BTreeMap<u64, Vec<Sector>>,
    /// Syncs that failed.
    failures: u64,
    /// Held by every handle, so that a removed file goes when the last one does.
    handles: Arc<()>,
}

enum Change {
    Link(String, u64),
    Unlink(String, u64),
    Rename(String, String, u64),
}

struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    generation: u64,
    /// Of the inode's, those that this handle knows of.
    failures: AtomicU64,
    _handle: Arc<()>,
}

impl SimDisk {
    /// An empty disk without a bound.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// Another disk that holds what this one shows now, all of it durable.
    pub fn copy(&self) -> SimDisk {
        let state = self.lock();
        let inodes = state.inodes.iter().map(|(number, inode)| {
            let copy = Inode {
                len: inode.len,
                durable_len: inode.len,
                sectors: inode.sectors.clone(),
                durable: inode.sectors.clone(),
                ..Inode::default()
            };
            (*number, copy)
        });
        let copy = State {
            inodes: inodes.collect(),
            next_inode: state.next_inode,
            names: state.names.clone(),
            durable_names: state.names.clone(),
            capacity_bytes: state.capacity_bytes,
            ..State::default()
        };
        SimDisk {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    /// Power is lost and comes back: what was not synced survives as `seed` decides. Open
    /// handles die; `fail_after` and a fault that has not struck yet are forgotten.
    pub fn crash(&self, seed: u64) {
        let mut state = self.lock();
        let mut rng = Rng(seed);
        let prefix = rng.below(2) == 0;
        let changes = std::mem::take(&mut state.changes);
        let kept_prefix = rng.below(changes.len() as u64 + 1) as usize;
        let mut names = std::mem::take(&mut state.durable_names);
        for (i, change) in changes.into_iter().enumerate() {
            let kept = if prefix {
                i < kept_prefix
            } else {
                rng.below(2) == 0
            };
            if kept {
                apply(&mut names, change);
            }
        }
        state
            .inodes
            .retain(|inode, _| names.values().any(|n| n == inode));
        // Now and then all or nothing survives, which independent coins would hardly ever show.
        let mode = rng.below(6);
        for inode in state.inodes.values_mut() {
            for (at, versions) in std::mem::take(&mut inode.unsynced) {
                let last = versions.len() as u64;
                let pick = match mode {
                    0 => 0,
                    1 => last,
                    _ => rng.below(last + 1),
                };
                if let Some(kept) = pick.checked_sub(1).and_then(|i| versions.get(i as usize)) {
                    inode.durable.insert(at, *kept);
                }
            }
            if inode.len != inode.durable_len && rng.below(2) == 0 {
                inode.durable_len = inode.len;
            }
            let sectors = inode.durable_len.div_ceil(SECTOR_BYTES as u64);
            inode.durable.retain(|at, _| *at < sectors);
            inode.len = inode.durable_len;
            inode.sectors = inode.durable.clone();
        }
        state.names = names.clone();
        state.durable_names = names;
        state.generation += 1;
        state.fail_after = None;
        state.fault = None;
    }

    /// From the `n`-th changing call from now on (1 is the next) all fail, as when power is
    /// lost during that call. Changing calls are writes, syncs and changes of names or lengths.
    pub fn fail_after(&self, n: u64) {
        let mut state = self.lock();
        state.fail_after = Some(state.calls + n);
    }

    /// How many changing calls there were in all.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Makes the next call of the fault's kind fail.
    pub fn inject(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Bounds the sum of the lengths of all files; `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_bytes = bytes;
    }

    /// Flips one bit of a file, as decay does: durably and unnoticed. `bit` is 0 to 7.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u32) -> io::Result<()> {
        let mut state = self.lock();
        let inode = *state.names.get(name).ok_or_else(not_found)?;
        let inode = state.inodes.get_mut(&inode).ok_or_else(not_found)?;
        let (at, within) = split(offset);
        for sectors in [&mut inode.sectors, &mut inode.durable] {
            if let Some(byte) = sectors.entry(at).or_insert(ZERO).get_mut(within) {
                *byte ^= 1 << (bit & 7);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, state: &State, inode: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            state: Arc::clone(&self.state),
            inode,
            generation: state.generation,
            failures: (state.inodes.get(&inode)).map_or(0, |i| i.failures).into(),
            _handle: (state.inodes.get(&inode))
                .map_or_else(Arc::default, |i| Arc::clone(&i.handles)),
        })
    }
}

/// What a changing call may do.
enum Power {
    On,
    /// Lost during this very call: it takes effect as far as unsynced changes go.
    Failing,
}

impl State {
    fn change(&mut self) -> io::Result<Power> {
        self.calls += 1;
        match self.fail_after {
            Some(n) if self.calls > n => Err(power_lost()),
            Some(n) if self.calls == n => Ok(Power::Failing),
            _ => Ok(Power::On),
        }
    }

    fn strikes(&mut self, faults: &[Fault]) -> Option<Fault> {
        self.fault.take_if(|fault| faults.contains(fault))
    }

    fn free_bytes(&self) -> u64 {
        let lens = self.names.values().filter_map(|n| self.inodes.get(n));
        let used: u64 = lens.map(|inode| inode.len).sum();
        self.capacity_bytes
            .map_or(u64::MAX, |c| c.saturating_sub(used))
    }

    fn note(&mut self, change: Change, power: Power) -> io::Result<()> {
        apply(&mut self.names, clone(&change));
        self.changes.push(change);
        power.done()
    }
}

impl Power {
    fn done(self) -> io::Result<()> {
        match self {
            Power::On => Ok(()),
            Power::Failing => Err(power_lost()),
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        let power = state.change()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.free_bytes() < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.strikes(&[Fault::CreateHasNoDescriptor]).is_some() {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        let file = Inode {
            len: bytes,
            ..Inode::default()
        };
        state.inodes.insert(inode, file);
        state.note(Change::Link(name.to_owned(), inode), power)?;
        Ok(self.handle(&state, inode))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock();
        let inode = *state.names.get(name).ok_or_else(not_found)?;
        Ok(self.handle(&state, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        let power = state.change()?;
        let inode = *state.names.get(from).ok_or_else(not_found)?;
        state.note(Change::Rename(from.to_owned(), to.to_owned(), inode), power)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        let power = state.change()?;
        let inode = *state.names.get(name).ok_or_else(not_found)?;
        state.note(Change::Unlink(name.to_owned(), inode), power)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?.done()?;
        state.durable_names = state.names.clone();
        state.changes.clear();
        let State { inodes, names, .. } = &mut *state;
        inodes.retain(|inode, file| {
            Arc::strong_count(&file.handles) > 1 || names.values().any(|n| n == inode)
        });
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free_bytes())
    }
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, &mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != self.generation {
            return Err(power_lost());
        }
        let mut inode = state.inodes.remove(&self.inode).ok_or_else(not_found)?;
        let result = act(&mut state, &mut inode);
        state.inodes.insert(self.inode, inode);
        result
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.with(|_, inode| {
            let n = inode.len.saturating_sub(offset).min(into.len() as u64) as usize;
            let mut done = 0;
            while done < n {
                let (at, within) = split(offset + done as u64);
                let step = (SECTOR_BYTES - within).min(n - done);
                let sector = inode.sectors.get(&at).unwrap_or(&ZERO);
                into[done..done + step].copy_from_slice(&sector[within..within + step]);
                done += step;
            }
            Ok(n)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, inode| {
            let power = state.change()?;
            let fault = state.strikes(&[Fault::WriteFails, Fault::WriteHasNoSpace]);
            let end = offset + bytes.len() as u64;
            // The file itself is not among those counted while it is being changed.
            if end > inode.len && end > state.free_bytes() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let written = if fault.is_some() {
                bytes.len() / 2
            } else {
                bytes.len()
            };
            inode.len = inode.len.max(offset + written as u64);
            let mut done = 0;
            while done < written {
                let (at, within) = split(offset + done as u64);
                let step = (SECTOR_BYTES - within).min(written - done);
                let sector = inode.sectors.entry(at).or_insert(ZERO);
                sector[within..within + step].copy_from_slice(&bytes[done..done + step]);
                inode.unsynced.entry(at).or_default().push(*sector);
                done += step;
            }
            match fault {
                Some(Fault::WriteHasNoSpace) => Err(io::ErrorKind::StorageFull.into()),
                Some(_) => Err(broken()),
                None => power.done(),
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, inode| {
            state.change()?.done()?;
            let unsynced = std::mem::take(&mut inode.unsynced);
            if state.strikes(&[Fault::SyncFails]).is_some() {
                inode.failures += 1;
            } else {
                for at in unsynced.into_keys() {
                    if let Some(sector) = inode.sectors.get(&at) {
                        inode.durable.insert(at, *sector);
                    }
                }
                inode.durable_len = inode.len;
            }
            // Reported once to each handle that was open then.
            if self.failures.swap(inode.failures, Relaxed) < inode.failures {
                return Err(broken());
            }
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.with(|state, inode| {
            let power = state.change()?;
            if bytes > inode.len && bytes > state.free_bytes() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            for (at, sector) in inode.sectors.range_mut(bytes / SECTOR_BYTES as u64..) {
                let from = bytes.saturating_sub(at * SECTOR_BYTES as u64);
                sector[(from as usize).min(SECTOR_BYTES)..].fill(0);
                inode.unsynced.entry(*at).or_default().push(*sector);
            }
            inode.len = bytes;
            power.done()
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, inode| Ok(inode.len))
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: Change) {
    let mut unlink = |name: &str, inode| {
        if names.get(name) == Some(&inode) {
            names.remove(name);
        }
    };
    match change {
        Change::Unlink(name, inode) => unlink(&name, inode),
        Change::Link(name, inode) => drop(names.insert(name, inode)),
        Change::Rename(from, to, inode) => {
            unlink(&from, inode);
            names.insert(to, inode);
        }
    }
}

fn clone(change: &Change) -> Change {
    match change {
        Change::Link(name, inode) => Change::Link(name.clone(), *inode),
        Change::Unlink(name, inode) => Change::Unlink(name.clone(), *inode),
        Change::Rename(from, to, inode) => Change::Rename(from.clone(), to.clone(), *inode),
    }
}

fn split(offset: u64) -> (u64, usize) {
    let sector = SECTOR_BYTES as u64;
    (offset / sector, (offset % sector) as usize)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn broken() -> io::Error {
    io::Error::other("simulated EIO")
}

fn power_lost() -> io::Error {
    io::Error::other("simulated loss of power")
}

/// SplitMix64: small, and good enough to choose what survives.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}
