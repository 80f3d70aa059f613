//! The lines of a file that `quire load` reads, and the requests that they become.
//!
//! | line | requests |
//! |---|---|
//! | `{"id": …, "fields": {…}}` | `HSET key f v …` |
//! | `{"id": …, "set": {…}, "incr": {…}}` | `HSET key f v …`, then `HINCRBY key f n` for each |
//! | `{"id": …, "a": 1, "b": "x"}` | `HSET key a 1 b x …` of all scalar members |
//!
//! The key is a template: `profile:{id}` takes `id` from the line's scalar top-level members,
//! which are then not fields themselves. `null` leaves a field out.

use serde_json::{Map, Value};

/// A key with places for a line's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyTemplate {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Member(String),
}

/// A template or a line that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUpdate {
    #[error("the template '{0}' is not valid: write members as {{name}}, as in profile:{{id}}")]
    Template(String),
    #[error("not JSON: {0}")]
    Json(String),
    #[error("not a JSON object")]
    NotAnObject,
    #[error("the key needs a member '{0}' that is a string, a number or a boolean")]
    MissingMember(String),
    #[error("'{0}' must be an object")]
    NotFields(&'static str),
    #[error("field '{0}' is an array or an object; hashes hold strings and numbers")]
    NotScalar(String),
    #[error("'incr' of field '{0}' must be a whole number")]
    NotWhole(String),
    #[error("the line has no fields")]
    Empty,
}

impl std::str::FromStr for KeyTemplate {
    type Err = InvalidUpdate;
    fn from_str(text: &str) -> Result<Self, InvalidUpdate> {
        let wrong = || InvalidUpdate::Template(text.to_string());
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (member, after) = after.split_once('}').ok_or_else(wrong)?;
            if member.is_empty() || member.contains('{') || before.contains('}') {
                return Err(wrong());
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(Piece::Member(member.into()));
            rest = after;
        }
        if rest.contains('}') || text.is_empty() {
            return Err(wrong());
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(KeyTemplate { pieces })
    }
}

impl KeyTemplate {
    /// The key of `line`.
    fn key(&self, line: &Map<String, Value>) -> Result<String, InvalidUpdate> {
        let mut key = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Member(name) => {
                    let member = line.get(name).and_then(scalar);
                    key.push_str(
                        &member.ok_or_else(|| InvalidUpdate::MissingMember(name.clone()))?,
                    );
                }
            }
        }
        Ok(key)
    }

    fn uses(&self, name: &str) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Member(member) if member == name))
    }

    /// The requests of one line of a file, in order; at least one.
    pub(crate) fn requests(&self, line: &str) -> Result<Vec<Vec<String>>, InvalidUpdate> {
        let Value::Object(line) =
            serde_json::from_str(line).map_err(|e| InvalidUpdate::Json(e.to_string()))?
        else {
            return Err(InvalidUpdate::NotAnObject);
        };
        let key = self.key(&line)?;
        let mut requests = Vec::new();
        let is_update = line.contains_key("set") || line.contains_key("incr");
        let mut hset = vec!["HSET".to_string(), key.clone()];
        if is_update {
            put_fields(object(&line, "set")?, &mut hset)?;
        } else if line.contains_key("fields") {
            put_fields(object(&line, "fields")?, &mut hset)?;
        } else {
            for (name, value) in &line {
                if let Some(value) = scalar(value).filter(|_| !self.uses(name)) {
                    hset.extend([name.clone(), value]);
                }
            }
        }
        if hset.len() > 2 {
            requests.push(hset);
        }
        if is_update {
            for (field, by) in object(&line, "incr")?.into_iter().flatten() {
                let by = by
                    .as_i64()
                    .ok_or_else(|| InvalidUpdate::NotWhole(field.clone()))?;
                let [command, key, field] = ["HINCRBY", &key, field].map(String::from);
                requests.push(vec![command, key, field, by.to_string()]);
            }
        }
        if requests.is_empty() {
            return Err(InvalidUpdate::Empty);
        }
        Ok(requests)
    }
}

fn object<'a>(
    line: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a Map<String, Value>>, InvalidUpdate> {
    match line.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(InvalidUpdate::NotFields(name)),
    }
}

fn put_fields(
    fields: Option<&Map<String, Value>>,
    hset: &mut Vec<String>,
) -> Result<(), InvalidUpdate> {
    for (name, value) in fields.into_iter().flatten() {
        if value.is_null() {
            continue;
        }
        let value = scalar(value).ok_or_else(|| InvalidUpdate::NotScalar(name.clone()))?;
        hset.extend([name.clone(), value]);
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(template: &str, line: &str) -> Result<Vec<String>, InvalidUpdate> {
        let template: KeyTemplate = template.parse()?;
        let requests = template.requests(line)?;
        Ok(requests.iter().map(|request| request.join(" ")).collect())
    }

    #[test]
    fn templates_take_members_of_the_line() {
        let line = r#"{"id":"C1","region":"us","n":7,"fields":{"name":"Ana"}}"#;
        for (template, key) in [
            ("profile:{id}", "profile:C1"),
            ("{region}/{id}/{n}", "us/C1/7"),
            ("fixed", "fixed"),
            ("{id}", "C1"),
        ] {
            let made = requests(template, line).unwrap();
            assert_eq!(made, [format!("HSET {key} name Ana")]);
        }
        for bad in ["", "a{", "a}", "{}", "{a{b}}", "a}b{c}"] {
            assert!(bad.parse::<KeyTemplate>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn each_kind_of_line_becomes_its_requests() {
        for (line, wanted) in [
            (
                r#"{"id":1,"a":"x","b":2,"c":true,"d":null,"e":[1]}"#,
                vec!["HSET k:1 a x b 2 c true"],
            ),
            (
                r#"{"at":"1975","id":1,"set":{"a":"x"},"incr":{"n":1,"m":-2}}"#,
                vec!["HSET k:1 a x", "HINCRBY k:1 n 1", "HINCRBY k:1 m -2"],
            ),
            (r#"{"id":1,"incr":{"n":1}}"#, vec!["HINCRBY k:1 n 1"]),
            (r#"{"id":1,"set":{"a":"x","b":null}}"#, vec!["HSET k:1 a x"]),
        ] {
            assert_eq!(requests("k:{id}", line).unwrap(), wanted, "{line}");
        }
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        use InvalidUpdate as E;
        for (line, wanted) in [
            ("[1]", E::NotAnObject),
            (r#"{"fields":{"a":1}}"#, E::MissingMember("id".into())),
            (
                r#"{"id":{},"fields":{"a":1}}"#,
                E::MissingMember("id".into()),
            ),
            (r#"{"id":1,"fields":3}"#, E::NotFields("fields")),
            (r#"{"id":1,"fields":{"a":[]}}"#, E::NotScalar("a".into())),
            (r#"{"id":1,"incr":{"n":1.5}}"#, E::NotWhole("n".into())),
            (r#"{"id":1,"fields":{}}"#, E::Empty),
            (r#"{"id":1}"#, E::Empty),
        ] {
            assert_eq!(requests("k:{id}", line), Err(wanted), "{line}");
        }
        assert!(matches!(requests("k:{id}", "{"), Err(E::Json(_))));
    }

    #[test]
    fn every_line_of_the_sample_data_is_good() {
        let template: KeyTemplate = "profile:{id}".parse().unwrap();
        for (data, lines) in [
            (include_str!("../../../testdata/profiles.jsonl"), 537),
            (include_str!("../../../testdata/updates.jsonl"), 2_792),
        ] {
            let good = data.lines().filter(|l| template.requests(l).is_ok());
            assert_eq!(good.count(), lines);
        }
    }
}
