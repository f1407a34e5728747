//! What would systemd read here? An independent reader of unit files for the tests, written from
//! systemd.syntax(7) and systemd.service(5), not from the writer.

use std::collections::HashMap;

/// The settings of a unit file in order: (section, key, value).
pub fn settings(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.split(['\n', '\r', '\0']) {
        let line = line.trim_matches([' ', '\t']);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let backslashes = line.chars().rev().take_while(|c| *c == '\\').count();
        assert!(backslashes % 2 == 0, "continued line: {line}");
        if let Some(name) = line.strip_prefix('[') {
            section = name.strip_suffix(']').expect("section").to_owned();
        } else {
            let (key, value) = line.split_once('=').expect("key and value");
            let value = value.trim_matches([' ', '\t']).to_owned();
            found.push((section.clone(), key.trim().to_owned(), value));
        }
    }
    found
}

/// The values of one key.
pub fn values(text: &str, key: &str) -> Vec<String> {
    let all = settings(text).into_iter();
    all.filter(|(_, k, _)| k == key)
        .map(|(_, _, v)| v)
        .collect()
}

/// The program's path and its arguments, as execve would get them with no variable set.
pub fn exec_argv(line: &str) -> Result<Vec<String>, String> {
    let mut argv = Vec::new();
    for (index, word) in words(line)?.into_iter().enumerate() {
        if word.bare && word.text == b";" {
            return Err("a second command".into());
        }
        let text = specifiers(&word.text)?;
        if index == 0 {
            if !text.starts_with('/') || text.contains(char::is_control) {
                return Err(format!("not a program: {text}"));
            }
            argv.push(text);
        } else {
            variables(&text, &HashMap::new(), &mut argv)?;
        }
    }
    Ok(argv)
}

/// The variables of an `Environment=` line.
pub fn assignments(line: &str) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for word in words(line)? {
        let text = specifiers(&word.text)?;
        let (name, value) = text.split_once('=').ok_or("no =")?;
        all.push((name.to_owned(), value.to_owned()));
    }
    Ok(all)
}

struct Word {
    text: Vec<u8>,
    /// Neither a quote nor a backslash in it.
    bare: bool,
}

fn words(line: &str) -> Result<Vec<Word>, String> {
    let bytes = line.as_bytes();
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if b" \t".contains(&bytes[at]) {
            at += 1;
            continue;
        }
        let mut word = Word {
            text: Vec::new(),
            bare: true,
        };
        if bytes[at..] == *b"\\;" || bytes[at..].starts_with(b"\\; ") {
            word.text.push(b';');
            word.bare = false;
            at += 2;
        } else {
            let quote = bytes[at];
            let quoted = b"\"'".contains(&quote);
            at += usize::from(quoted);
            word.bare = !quoted;
            loop {
                match bytes.get(at) {
                    None if quoted => return Err("unbalanced quote".into()),
                    None => break,
                    Some(b' ' | b'\t') if !quoted => break,
                    Some(c) if quoted && *c == quote => {
                        at += 1;
                        if !matches!(bytes.get(at), None | Some(b' ' | b'\t')) {
                            return Err("a closing quote inside a word".into());
                        }
                        break;
                    }
                    Some(b'"' | b'\'') if !quoted => {
                        return Err("an opening quote inside a word".into());
                    }
                    Some(b'\\') => {
                        word.bare = false;
                        at += escape(&bytes[at + 1..], &mut word.text)? + 1;
                    }
                    Some(c) => {
                        word.text.push(*c);
                        at += 1;
                    }
                }
            }
        }
        all.push(word);
    }
    Ok(all)
}

/// One escape, after its backslash; returns how many bytes it took.
fn escape(rest: &[u8], text: &mut Vec<u8>) -> Result<usize, String> {
    let value = match rest.first() {
        Some(b'a') => 7,
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'v') => 11,
        Some(b's') => b' ',
        Some(c @ (b'\\' | b'"' | b'\'')) => *c,
        Some(b'x') => {
            let digits = rest.get(1..3).ok_or("short escape")?;
            let digits = std::str::from_utf8(digits).map_err(|e| e.to_string())?;
            let value = u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?;
            if value == 0 {
                return Err("NUL".into());
            }
            text.push(value);
            return Ok(3);
        }
        other => return Err(format!("unknown escape {other:?}")),
    };
    text.push(value);
    Ok(1)
}

fn specifiers(text: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '%' && chars.next() != Some('%') {
            return Err(format!("a specifier in {text}"));
        }
        out.push(c);
    }
    Ok(out)
}

/// `$$`, `${NAME}` anywhere, and `$NAME` as a word of its own.
fn variables(
    word: &str,
    env: &HashMap<String, String>,
    argv: &mut Vec<String>,
) -> Result<(), String> {
    if let Some(name) = word.strip_prefix('$')
        && !name.starts_with(['{', '$'])
    {
        let value = env.get(name).cloned().unwrap_or_default();
        argv.extend(value.split_whitespace().map(String::from));
        return Ok(());
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (name, after) = after.split_once('}').ok_or("unclosed ${")?;
            out.push_str(env.get(name).map_or("", String::as_str));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    argv.push(out);
    Ok(())
}
