//! A file of what a failover lost, as a node saves it (its format: docs/formats.md), and what
//! each key would be had it not been lost.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("line {line} can't be read: {source}; is the file of this version of Quire?")]
    Line {
        line: usize,
        source: serde_json::Error,
    },
    #[error("line {line} has an effect that can't be read: {effect}")]
    Effect { line: usize, effect: String },
}

/// What stands in a file.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// None: the node did not know it.
    pub(crate) keyspace: Option<String>,
    /// Whether its last line is there.
    pub(crate) complete: bool,
    /// Whether the shard was cleared.
    pub(crate) flushed: bool,
    pub(crate) entries: u64,
    pub(crate) keys: BTreeMap<Vec<u8>, Wanted>,
}

/// What the lost entries made of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This string, until then (ms since 1970).
    String(Vec<u8>, Option<u64>),
    /// These fields of a hash have these values, or (None) are gone; and its expiry, if that
    /// was set (Some) or lifted (Some(None)).
    Hash(BTreeMap<Vec<u8>, Option<Vec<u8>>>, Option<Option<u64>>),
    /// It is gone.
    Absent,
    /// Only its expiry is another.
    Expiry(Option<u64>),
}

#[derive(Deserialize)]
struct Line {
    keyspace: Option<String>,
    #[serde(default)]
    end: bool,
    #[serde(default)]
    position: Option<String>,
    #[serde(default)]
    effects: Value,
}

#[derive(Deserialize)]
struct Effect {
    op: String,
    key: Option<Text>,
    value: Option<Text>,
    #[serde(default)]
    fields: Vec<Field>,
    expires_ms: Option<u64>,
    #[serde(default)]
    created: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Pair(Text, Text),
    Name(Text),
}

/// UTF-8, or `{"base64": …}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Encoded { base64: String },
}

impl Text {
    fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Text::Plain(text) => Some(text.into_bytes()),
            Text::Encoded { base64 } => decode_base64(&base64),
        }
    }
}

impl Lost {
    pub(crate) fn parse(text: &str) -> Result<Self, FileError> {
        let mut lost = Lost::default();
        for (at, line) in text.lines().enumerate() {
            let line_error = |source| FileError::Line {
                line: at + 1,
                source,
            };
            let read: Line = serde_json::from_str(line).map_err(line_error)?;
            lost.keyspace = read.keyspace.or(lost.keyspace);
            lost.complete |= read.end;
            if read.position.is_none() {
                continue;
            }
            lost.entries += 1;
            for effect in read.effects.as_array().into_iter().flatten() {
                let wrong = || FileError::Effect {
                    line: at + 1,
                    effect: effect.to_string().chars().take(200).collect(),
                };
                let read = serde_json::from_value(effect.clone()).map_err(|_| wrong())?;
                lost.take(read).ok_or_else(wrong)?;
            }
        }
        Ok(lost)
    }

    fn take(&mut self, effect: Effect) -> Option<()> {
        let Some(key) = effect.key else {
            self.flushed |= effect.op == "flush";
            self.keys.values_mut().for_each(|k| *k = Wanted::Absent);
            return (effect.op == "flush").then_some(());
        };
        let key = key.bytes()?;
        let before = self.keys.remove(&key);
        let after = match effect.op.as_str() {
            "set" => Wanted::String(effect.value?.bytes()?, effect.expires_ms),
            "del" => Wanted::Absent,
            "expire" => match before {
                Some(Wanted::String(value, _)) => Wanted::String(value, effect.expires_ms),
                Some(Wanted::Hash(fields, _)) => Wanted::Hash(fields, Some(effect.expires_ms)),
                Some(Wanted::Absent) => Wanted::Absent,
                None | Some(Wanted::Expiry(_)) => Wanted::Expiry(effect.expires_ms),
            },
            "hset" | "hdel" => {
                let (mut fields, mut expiry) = match before {
                    Some(Wanted::Hash(fields, expiry)) if !effect.created => (fields, expiry),
                    Some(Wanted::Expiry(at)) if !effect.created => (BTreeMap::new(), Some(at)),
                    _ => (BTreeMap::new(), None),
                };
                for field in effect.fields {
                    match field {
                        Field::Pair(name, value) => {
                            fields.insert(name.bytes()?, Some(value.bytes()?));
                        }
                        Field::Name(name) => {
                            fields.insert(name.bytes()?, None);
                        }
                    }
                }
                expiry = effect.expires_ms.map(Some).or(expiry);
                Wanted::Hash(fields, expiry)
            }
            _ => return None,
        };
        self.keys.insert(key, after);
        Some(())
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_effects_of_a_key_hold() {
        let lost = Lost::parse(
            r#"{"rewound":1,"node":"us-1","shard":7,"keyspace":"profiles","epoch":3,"common":"1:100"}
{"position":"1:101","committed":true,"effects":[{"key":"s","op":"set","value":"1"},{"key":"h","op":"hset","fields":[["a","1"],["b","2"]],"created":false}]}
{"position":"1:102","committed":true,"effects":[{"key":"s","op":"expire","expires_ms":9},{"key":"h","op":"hdel","fields":["a"]}]}
{"position":"1:103","committed":true,"effects":[{"key":{"base64":"a/8="},"op":"del"},{"key":"e","op":"expire","expires_ms":null}]}
{"end":true,"entries":3,"effects":6}
"#,
        )
        .unwrap();
        assert_eq!(lost.keyspace.as_deref(), Some("profiles"));
        assert!(lost.complete && !lost.flushed);
        assert_eq!(lost.entries, 3);
        let fields = BTreeMap::from([(b"a".to_vec(), None), (b"b".to_vec(), Some(b"2".to_vec()))]);
        let wanted = BTreeMap::from([
            (b"s".to_vec(), Wanted::String(b"1".to_vec(), Some(9))),
            (b"h".to_vec(), Wanted::Hash(fields, None)),
            (b"k\xff".to_vec(), Wanted::Absent),
            (b"e".to_vec(), Wanted::Expiry(None)),
        ]);
        assert_eq!(lost.keys, wanted);
    }

    #[test]
    fn a_flush_takes_what_was_before_it() {
        let lost = Lost::parse(
            r#"{"position":"1:1","effects":[{"key":"s","op":"set","value":"1"},{"op":"flush"},{"key":"t","op":"set","value":"2"}]}"#,
        )
        .unwrap();
        assert!(lost.flushed && !lost.complete);
        assert_eq!(lost.keys[&b"s"[..]], Wanted::Absent);
        assert_eq!(lost.keys[&b"t"[..]], Wanted::String(b"2".to_vec(), None));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            "nonsense",
            r#"{"position":"1:1","effects":[{"key":"k","op":"zadd"}]}"#,
            r#"{"position":"1:1","effects":[{"key":"k","op":"set"}]}"#,
            r#"{"position":"1:1","effects":[{"key":{"base64":"?"},"op":"del"}]}"#,
        ] {
            assert!(Lost::parse(wrong).is_err(), "{wrong}");
        }
    }
}
