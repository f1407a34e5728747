//! The key `health`: a word, or a table of what to ask, how long, and how often.

use super::super::errors::quoted;
use super::super::{Command, DEFAULT_HEALTH_INTERVAL, DEFAULT_HEALTH_TIMEOUT, Health, HttpCheck};
use super::site::Site;
use std::net::Ipv6Addr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const KEYS: [&str; 4] = ["http", "command", "timeout", "interval"];
const EXPECTED_TABLE: &str = "{ http = \"/path\" } or { command = \"…\" }";
const EXPECTED_URL: &str = "\"/path\" or \"http://host:port/path\"";

/// Health as written; what it means may depend on the service's port.
#[derive(Clone)]
pub enum Form {
    None,
    Tcp,
    Http {
        url: Url,
        timeout: Duration,
        interval: Duration,
    },
    Command {
        command: Command,
        timeout: Duration,
        interval: Duration,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `None`: the service's own port on the loopback.
    host_and_port: Option<(String, u16)>,
    path: String,
}

impl Form {
    pub fn default_for(port: Option<u16>) -> Health {
        match port {
            Some(_) => Health::Tcp,
            None => Health::None,
        }
    }

    /// `None` where it needs a port and there is none.
    pub fn on_port(self, port: Option<u16>) -> Option<Health> {
        Some(match self {
            Form::None => Health::None,
            Form::Tcp => port.map(|_| Health::Tcp)?,
            Form::Http {
                url,
                timeout,
                interval,
            } => {
                let (host, port) = match url.host_and_port {
                    Some(written) => written,
                    None => ("127.0.0.1".to_owned(), port?),
                };
                Health::Http(HttpCheck {
                    host,
                    port,
                    path: url.path,
                    timeout,
                    interval,
                })
            }
            Form::Command {
                command,
                timeout,
                interval,
            } => Health::Command {
                command,
                timeout,
                interval,
            },
        })
    }
}

impl Site<'_> {
    pub fn health(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Form> {
        match value.get_ref() {
            DeValue::Table(keys) => self.health_table(value, keys),
            DeValue::String(text) if text.contains('/') => {
                self.wrong(
                    value.span(),
                    format!(
                        "unknown word {}; expected {{ http = … }} for an address",
                        quoted(text)
                    ),
                );
                None
            }
            DeValue::String(_) => {
                let word = self.word(value, &[("tcp", 't'), ("none", 'n'), ("http", 'h')])?;
                Some(match word {
                    't' => Form::Tcp,
                    'n' => Form::None,
                    _ => Form::Http {
                        url: Url {
                            host_and_port: None,
                            path: "/".to_owned(),
                        },
                        timeout: DEFAULT_HEALTH_TIMEOUT,
                        interval: DEFAULT_HEALTH_INTERVAL,
                    },
                })
            }
            _ => {
                let expected = format!("\"tcp\", \"none\", \"http\", {EXPECTED_TABLE}");
                self.wrong_type(value, &expected);
                None
            }
        }
    }

    fn health_table(&mut self, value: &Spanned<DeValue<'_>>, keys: &DeTable<'_>) -> Option<Form> {
        let mut url = None;
        let mut command = None;
        let mut timeout = Some(DEFAULT_HEALTH_TIMEOUT);
        let mut interval = Some(DEFAULT_HEALTH_INTERVAL);
        for (key, value) in keys {
            let path = format!("health.{}", key.get_ref());
            let mut site = Site {
                key: &path,
                place: self.place,
                root: self.root,
                mistakes: self.mistakes,
            };
            match key.get_ref().as_ref() {
                "http" => url = site.url(value),
                "command" => command = site.command(value),
                "timeout" => timeout = site.duration_above_zero(value),
                "interval" => interval = site.duration_above_zero(value),
                _ => {
                    site.unknown_key(key.span(), &KEYS);
                }
            }
        }
        match (keys.contains_key("http"), keys.contains_key("command")) {
            (true, true) => {
                self.wrong(
                    value.span(),
                    "has both http and command; expected one of them",
                );
            }
            (false, false) => {
                self.wrong(
                    value.span(),
                    format!("has neither http nor command; expected {EXPECTED_TABLE}"),
                );
            }
            _ => {}
        }
        let (timeout, interval) = (timeout?, interval?);
        match (url, command) {
            (Some(url), None) => Some(Form::Http {
                url,
                timeout,
                interval,
            }),
            (None, Some(command)) => Some(Form::Command {
                command,
                timeout,
                interval,
            }),
            _ => None,
        }
    }

    fn url(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Url> {
        let text = self.text(value, EXPECTED_URL)?;
        parse_url(text)
            .map_err(|why| {
                let text = quoted(text);
                self.wrong(
                    value.span(),
                    format!("{text} {why}; expected {EXPECTED_URL}"),
                );
            })
            .ok()
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    // What is not printable ASCII would break the request line.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('#') {
        return Err(
            "holds a space, a # or a character that is not ASCII (write it as %20, say)".into(),
        );
    }
    if text.starts_with('/') {
        return Ok(Url {
            host_and_port: None,
            path: text.to_owned(),
        });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("is neither a path nor a URL".into());
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(format!(
            "has the scheme {scheme}, and only http is spoken (for others use {{ command = … }})"
        ));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("/{path}"),
    };
    let host_and_port = Some(parse_authority(authority)?);
    Ok(Url {
        host_and_port,
        path,
    })
}

/// `host`, `host:port`, `[::1]:port`.
fn parse_authority(text: &str) -> Result<(String, u16), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or("has no ] after its IPv6 address")?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| "has no IPv6 address between its [ ]")?;
        (
            host,
            after.strip_prefix(':').or(after.is_empty().then_some("80")),
        )
    } else {
        let (host, port) = text.split_once(':').unwrap_or((text, "80"));
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(valid) {
            return Err("has no valid host".into());
        }
        (host, Some(port))
    };
    let port = port
        .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|port| port.parse::<u16>().ok())
        .filter(|port| *port > 0)
        .ok_or("has no valid port (1 to 65535)")?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |host: &str, port, path: &str| Url {
            host_and_port: Some((host.to_owned(), port)),
            path: path.to_owned(),
        };
        for (text, expected) in [
            (
                "http://localhost:8080/x?y=1",
                url("localhost", 8080, "/x?y=1"),
            ),
            ("http://127.0.0.1", url("127.0.0.1", 80, "/")),
            ("HTTP://example.org/", url("example.org", 80, "/")),
            ("http://[::1]:9/a", url("::1", 9, "/a")),
            ("http://[::1]", url("::1", 80, "/")),
            ("http://h?a=//b", url("h", 80, "/?a=//b")),
        ] {
            assert_eq!(parse_url(text), Ok(expected), "{text}");
        }
        let own = parse_url("/health?full").unwrap();
        assert_eq!(
            (own.host_and_port, own.path.as_str()),
            (None, "/health?full")
        );
    }

    #[test]
    fn urls_that_are_none() {
        for (text, part) in [
            ("health", "neither a path"),
            ("https://localhost/", "scheme https"),
            ("file:///etc", "scheme file"),
            ("http://", "host"),
            ("http://:80/", "host"),
            ("http://u@h/", "host"),
            ("http://h:0/", "port"),
            ("http://h:+1/", "port"),
            ("http://h:99999/", "port"),
            ("http://h:/", "port"),
            ("http://[::1]9/", "port"),
            ("http://[::1", "]"),
            ("http://[h]/", "IPv6"),
            ("/a b", "space"),
            ("/a\r\nX: y", "space"),
            ("/ä", "ASCII"),
            ("/a#b", "#"),
        ] {
            let error = parse_url(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
