//! Bugs that the simulator must be able to find: each breaks one rule of the protocols, in the
//! one place where that is kept. They exist only with the feature `planted-bugs`, which nothing
//! but the simulator's own test of itself turns on; without it [`is`] is `false` at compile
//! time.

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A replica acknowledges, and a primary commits, what is not durable there.
    AckBeforeSync,
    /// A process goes on in an epoch that another process of its node began.
    ResumeInOldEpoch,
    /// A replica says that it is sealed, and is not.
    PromoteWithoutSealing,
    /// What a new primary inherited counts as committed before its barrier does.
    NoBarrier,
    /// A primary is named while the lease of the former one runs.
    IgnoreLease,
    /// A new control leader takes no lease for granted that an earlier one gave.
    ForgetOldLeases,
    /// A message of an older epoch is taken for one of this.
    AcceptOlderEpoch,
    /// One acknowledgement counts for two members.
    CountAckTwice,
    /// What a learner acknowledges counts.
    CountLearner,
    /// A rewind adds what the new primary has, and removes nothing.
    RewindByMerging,
    /// A session's position does not travel with a command, nor back with its answer.
    ForgetSessionAcrossForward,
    /// A forwarded write without an answer is sent again.
    RetryForwardedWrite,
    /// The log is replayed from one entry behind where the store is.
    ReplayOneLate,
    /// A replica judges expiry by its own wall clock.
    ExpireOnReplicaClock,
    /// A primary that may have lost the end of its log takes office without hearing others.
    OfficeWithoutHearing,
    /// A disk that was put back to an older state is taken for what it was.
    ForgetGreatestProcess,
    /// A node keeps the time that its machine's wall clock says.
    FollowWallClock,
    /// A primary deletes a key whose time is over in its store, whatever is in flight.
    ExpireBelowTip,
    /// A replica that rests is taken for fresh though its primary said that there is news.
    RestOnThoughWoken,
    /// A member of a group promises what its disk does not have yet.
    PromiseBeforeSync,
    /// Whoever copies a store does not take over who is in the group.
    CopyWithoutMembers,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 21] = [
        Bug::AckBeforeSync,
        Bug::ResumeInOldEpoch,
        Bug::PromoteWithoutSealing,
        Bug::NoBarrier,
        Bug::IgnoreLease,
        Bug::ForgetOldLeases,
        Bug::AcceptOlderEpoch,
        Bug::CountAckTwice,
        Bug::CountLearner,
        Bug::RewindByMerging,
        Bug::ForgetSessionAcrossForward,
        Bug::RetryForwardedWrite,
        Bug::ReplayOneLate,
        Bug::ExpireOnReplicaClock,
        Bug::OfficeWithoutHearing,
        Bug::ForgetGreatestProcess,
        Bug::FollowWallClock,
        Bug::ExpireBelowTip,
        Bug::RestOnThoughWoken,
        Bug::PromiseBeforeSync,
        Bug::CopyWithoutMembers,
    ];
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug into everything that runs on this thread, or none.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
#[cfg(feature = "planted-bugs")]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this bug is planted: never, without the feature.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}
