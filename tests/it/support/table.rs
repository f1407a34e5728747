//! Entries of a table, written as TOML.

use std::path::Path;

pub struct Entry {
    pub name: String,
    pub port: Option<u16>,
    /// Whether the testee will say that it is ready by a file of the entry's name.
    pub tells: bool,
    command: String,
    keys: Vec<String>,
    testee: String,
    ready: String,
}

impl Entry {
    pub fn new(name: &str, testee: &Path, ready: &Path) -> Entry {
        Entry {
            name: name.to_owned(),
            port: None,
            tells: false,
            command: String::new(),
            keys: Vec::new(),
            testee: testee.display().to_string(),
            ready: format!("ready={}", ready.display()),
        }
        .does("")
    }

    pub fn id(&self) -> String {
        match self.port {
            Some(port) => format!("{}_{port}", self.name),
            None => self.name.clone(),
        }
    }

    pub fn port(mut self, port: u16) -> Entry {
        self.port = Some(port);
        self
    }

    /// The testee with these words.
    pub fn does(self, words: &str) -> Entry {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.words(&words)
    }

    /// The same, where a word holds a blank.
    pub fn words(mut self, words: &[&str]) -> Entry {
        self.tells = true;
        let mut all = vec![self.testee.as_str(), &self.ready];
        all.extend(words);
        self.command = format!("{all:?}");
        self
    }

    pub fn shell(mut self, command: &str) -> Entry {
        self.tells = false;
        self.command = format!("{command:?}");
        self
    }

    pub fn exec(mut self, argv: &[&str]) -> Entry {
        self.tells = false;
        self.command = format!("{argv:?}");
        self
    }

    /// A line of TOML.
    pub fn key(mut self, line: impl Into<String>) -> Entry {
        self.keys.push(line.into());
        self
    }

    pub fn toml(&self) -> String {
        let mut text = format!("[[service]]\nname = {:?}\n", self.name);
        if let Some(port) = self.port {
            text.push_str(&format!("port = {port}\n"));
        }
        text.push_str(&format!("command = {}\n", self.command));
        for line in &self.keys {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
