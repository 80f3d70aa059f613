//! The writer against a node that is made up.

use super::*;
use resp::{FrameDecoder, FrameLimits};

fn error(line: &'static str) -> Frame {
    Frame::Error(Bytes::from_static(line.as_bytes()))
}

fn ok() -> Frame {
    Frame::Simple(Bytes::from_static(b"OK"))
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn string(value: &str) -> Value {
    Value::String(text(value))
}

/// What the writer sends now, a request a line.
fn sent(writer: &mut Writer, now_ms: u64) -> Vec<String> {
    let mut out = BytesMut::new();
    let mut count = 0;
    while writer.next(now_ms, &mut out) {
        count += 1;
    }
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let mut requests = Vec::new();
    while let Some(request) = decoder.decode(&mut out).unwrap() {
        let words = request.as_values().unwrap().iter();
        let words = words.map(|word| word.as_bytes().unwrap().escape_ascii().to_string());
        requests.push(words.collect::<Vec<_>>().join(" "));
    }
    assert!(out.is_empty() && requests.len() == count);
    requests
}

#[test]
fn a_value_goes_with_its_moment_and_what_is_there_stays() {
    for (replace, end) in [(false, " ABSTTL"), (true, " ABSTTL REPLACE")] {
        let mut report = Report::default();
        let mut writer = Writer::new(replace, 1_000);
        writer.submit(Request::value(text("a"), &string("1"), Some(77)), 0);
        writer.submit(Request::value(text("b"), &string("2"), None), 0);
        let requests = sent(&mut writer, 0);
        assert!(requests[0].starts_with("RESTORE a 77 ") && requests[0].ends_with(end));
        assert!(requests[1].starts_with("RESTORE b 0 "));
        assert!(!writer.is_idle());
        writer.reply(&ok(), 1, &mut report);
        writer.reply(
            &error("BUSYKEY Target key name already exists."),
            1,
            &mut report,
        );
        assert!(writer.is_idle());
        assert_eq!((report.done_count(), report.existing), (1, 1));
    }
}

#[test]
fn what_was_refused_for_now_is_sent_again_after_a_pause_that_grows() {
    let mut report = Report::default();
    let mut writer = Writer::new(false, 60_000);
    for key in ["a", "b", "c"] {
        writer.submit(Request::value(text(key), &string("1"), None), 0);
    }
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(sent(&mut writer, now).len(), 3);
        for line in ["NOPRIMARY a", "BUSY b", "TRYAGAIN c"] {
            writer.reply(&error(line), now, &mut report);
        }
        assert!(sent(&mut writer, now).is_empty());
        pauses.push(writer.pause_ms(now));
        now += writer.pause_ms(now);
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
    assert_eq!(writer.window_bytes, WINDOW_BYTES_MIN);
    sent(&mut writer, now);
    for _ in 0..3 {
        writer.reply(&ok(), now, &mut report);
    }
    assert!(writer.is_idle() && writer.window_bytes > WINDOW_BYTES_MIN);
    assert_eq!(
        (report.done_count(), report.retries, report.failed_count()),
        (3, 24, 0)
    );
}

#[test]
fn what_may_have_been_done_is_compared_before_it_counts() {
    let hash = |value: &str| Value::Hash(vec![(text("f"), text(value)), (text("g"), text("1"))]);
    for (there, done, existing) in [(Some("v"), 1, 0), (Some("w"), 0, 1), (None, 1, 0)] {
        for is_lost in [true, false] {
            let mut report = Report::default();
            let mut writer = Writer::new(false, 1_000);
            writer.submit(Request::value(text("k"), &hash("v"), Some(9)), 0);
            sent(&mut writer, 0);
            if is_lost {
                writer.lost(0, &mut report);
            } else {
                writer.reply(&error("UNKNOWN the primary changed"), 0, &mut report);
            }
            assert!(sent(&mut writer, 50)[0].starts_with("RESTORE k 9 "));
            writer.reply(&error("BUSYKEY Target"), 50, &mut report);
            assert_eq!(sent(&mut writer, 50), ["DUMP k"]);
            let dump = there.map_or(Frame::Null, |value| {
                Frame::Bulk(rdb::encode(&hash(value)).into())
            });
            writer.reply(&dump, 50, &mut report);
            if there.is_none() {
                // Gone again: as if it had never been there.
                let now = 50 + writer.pause_ms(50);
                assert!(sent(&mut writer, now)[0].starts_with("RESTORE k 9 "));
                writer.reply(&ok(), now, &mut report);
            }
            assert!(writer.is_idle());
            assert_eq!(
                (report.done_count(), report.existing),
                (done, existing),
                "{there:?}"
            );
        }
    }
}

#[test]
fn what_was_in_flight_when_a_connection_broke_is_sent_first_and_in_order() {
    let mut report = Report::default();
    let mut writer = Writer::new(true, 1_000);
    let one_field = |key: &str| Request::fields(text(key), vec![(text("f"), text("v"))]);
    for key in ["a", "b"] {
        writer.submit(one_field(key), 0);
    }
    assert_eq!(sent(&mut writer, 0), ["HSET a f v", "HSET b f v"]);
    writer.submit(one_field("c"), 0);
    writer.lost(0, &mut report);
    assert!(sent(&mut writer, 0).is_empty());
    assert_eq!(
        sent(&mut writer, 50),
        ["HSET a f v", "HSET b f v", "HSET c f v"]
    );
    assert_eq!(report.retries, 2);
}

#[test]
fn what_never_will_be_done_is_told_with_the_reason() {
    let mut report = Report::default();
    let mut writer = Writer::new(false, 1_000);
    writer.submit(Request::value(text("k"), &string("v"), None), 0);
    writer.submit(Request::fields(text("h"), vec![(text("f"), text("v"))]), 0);
    sent(&mut writer, 0);
    writer.reply(&error("ERR one command may write at most"), 0, &mut report);
    writer.reply(&error("WRONGTYPE of a key"), 0, &mut report);
    assert!(writer.is_idle());
    assert_eq!(report.failed["ERR one command may write at most"].key, "k");
    assert_eq!(writer.take_refused().as_deref(), Some("WRONGTYPE of a key"));
    assert_eq!(writer.take_refused(), None);
    // An answer to nothing.
    assert!(!writer.reply(&ok(), 0, &mut report));
}

#[test]
fn bytes_on_their_way_are_bounded_and_a_single_large_value_passes() {
    let mut writer = Writer::new(false, 1_000);
    let value = string(&"x".repeat(100_000));
    let mut submitted = 0;
    while writer.has_room() {
        writer.submit(Request::value(text("k"), &value, None), 0);
        submitted += 1;
        assert!(submitted < 100);
    }
    assert!(writer.bytes < WINDOW_BYTES_MAX / 4 + 200_000);
    let mut writer = Writer::new(false, 1_000);
    writer.submit(
        Request::value(text("k"), &string(&"x".repeat(9 << 20)), None),
        0,
    );
    assert!(!writer.has_room());
    assert_eq!(sent(&mut writer, 0).len(), 1);
}

#[test]
fn it_gives_up_only_when_nothing_at_all_succeeds() {
    let mut report = Report::default();
    let mut writer = Writer::new(false, 1_000);
    writer.submit(Request::value(text("a"), &string("1"), None), 5_000);
    writer.submit(Request::value(text("b"), &string("1"), None), 5_000);
    sent(&mut writer, 5_000);
    assert!(!writer.is_stalled(6_000));
    assert!(writer.is_stalled(6_001));
    writer.reply(&ok(), 6_000, &mut report);
    assert!(!writer.is_stalled(7_000));
    writer.reply(&error("NOPRIMARY"), 6_500, &mut report);
    assert!(writer.is_stalled(7_001));
    sent(&mut writer, 8_000);
    writer.reply(&ok(), 8_000, &mut report);
    assert!(writer.is_idle() && !writer.is_stalled(99_999));
}
