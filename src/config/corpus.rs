//! The tables in `tests/tables`, good and bad, against the parser and against the schema.
//!
//! A bad table begins with what the parser says of it, `# expect: LINE: part of the message` (`-` for
//! no line) for each mistake in order, and with `# schema: accepts` where only meaning can tell.

use super::parse::parse;
use super::schema::SCHEMA;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

fn tables(kind: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tables")
        .join(kind);
    let mut tables: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    tables.sort();
    assert!(!tables.is_empty());
    tables
}

fn parser_says(text: &str) -> Vec<String> {
    let name = Path::new("services.toml");
    match parse(text, name, Path::new("/folder/services.toml")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn good_tables_are_accepted() {
    for (path, text) in tables("good") {
        let said = parser_says(&text);
        assert!(said.is_empty(), "{}: {said:#?}", path.display());
    }
}

#[test]
fn bad_tables_are_told_with_their_lines() {
    let mut wrong = Vec::new();
    for (path, text) in tables("bad") {
        let expected: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .map(|line| line.split_once(": ").unwrap())
            .collect();
        let said = parser_says(&text);
        let as_expected = |(said, (line, part)): (&String, &(&str, &str))| {
            let place = match *line {
                "-" => "services.toml: ".to_owned(),
                line => format!("services.toml:{line}: "),
            };
            said.starts_with(&place) && said.contains(part)
        };
        let all = said.len() == expected.len() && !expected.is_empty();
        if !all || !said.iter().zip(&expected).all(as_expected) {
            wrong.push(format!("{}: {said:#?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_schema_agrees() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut wrong = Vec::new();
    for (path, text) in tables("good") {
        if let Err(error) = validator.validate(&to_json(&text).unwrap()) {
            wrong.push(format!("{}: {error}", path.display()));
        }
    }
    for (path, text) in tables("bad") {
        let accepts = text.lines().any(|line| line == "# schema: accepts");
        // What is no TOML has no value that a schema could judge.
        if let Some(value) = to_json(&text)
            && validator.is_valid(&value) != accepts
        {
            wrong.push(format!("{}: accepted: {}", path.display(), !accepts));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As an editor with the schema sees it; `None` where it is no TOML.
fn to_json(text: &str) -> Option<Value> {
    let document = DeTable::parse(text).ok()?.into_inner();
    Some(table_to_json(&document))
}

fn table_to_json(table: &DeTable<'_>) -> Value {
    let pairs = table.iter().map(|(key, value)| {
        let key: &str = key.get_ref();
        (key.to_owned(), value_to_json(value.get_ref()))
    });
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn value_to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| json!(1e40), |number| json!(number)),
        // JSON has no NaN; null is as far from a number as a schema can see.
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().unwrap()),
        DeValue::Boolean(boolean) => json!(boolean),
        DeValue::Datetime(time) => json!(time.to_string()),
        DeValue::Array(items) => items
            .iter()
            .map(|item| value_to_json(item.get_ref()))
            .collect(),
        DeValue::Table(table) => table_to_json(table),
    }
}

/// Whatever one wrong byte does to a good table, it is a mistake or a table, never a panic.
#[test]
fn no_byte_makes_the_parser_panic() {
    let (_, text) = tables("good")
        .into_iter()
        .find(|(path, _)| path.ends_with("every_key.toml"))
        .unwrap();
    for at in 0..text.len() {
        for byte in [b'"', b'[', b'=', b'\n', b'-', 0] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = byte;
            let _ = parser_says(&String::from_utf8(bytes).unwrap());
        }
        let _ = parser_says(&text[..at]);
    }
}
