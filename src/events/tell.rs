//! What does the event log say, in words? One line an event, in the order of the log and in local
//! time, with how long each start and stop took; a gap of a minute or more is an empty line.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::EventKind;
use crate::logs::sanitize::sanitize;
use crate::sys::local_time::LocalTime;

const GAP: Duration = Duration::from_secs(60);

/// One line of the event log as it was read, whoever wrote it.
pub struct Told {
    time: Option<SystemTime>,
    event: String,
    pub service: Option<String>,
    pid: Option<i64>,
    why: String,
    more: Map<String, Value>,
}

impl Told {
    /// `None` where the line is no event.
    pub fn parse(line: &[u8]) -> Option<Told> {
        let mut more: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let mut text = |key| match more.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Some(Told {
            event: text("event")?,
            time: text("time").and_then(|time| humantime::parse_rfc3339(&time).ok()),
            service: text("service"),
            why: text("why").unwrap_or_default(),
            pid: more.remove("pid").and_then(|pid| pid.as_i64()),
            more,
        })
    }

    fn kind(&self) -> Option<EventKind> {
        serde_json::from_value(Value::String(self.event.clone())).ok()
    }
}

pub struct Teller {
    width: usize,
    color: bool,
    last: Option<SystemTime>,
    /// By service: since when a start or a stop is under way, and what it began with.
    begun: HashMap<String, (SystemTime, String)>,
}

impl Teller {
    /// `width`: of the column of the services' ids.
    pub fn new(width: usize, color: bool) -> Teller {
        Teller {
            width,
            color,
            last: None,
            begun: HashMap::new(),
        }
    }

    /// The event as a line, with its newline, and an empty line before it after a gap.
    pub fn tell(&mut self, mut told: Told) -> String {
        let gap = match (self.last, told.time) {
            (Some(last), Some(time)) => time.duration_since(last).is_ok_and(|gap| gap >= GAP),
            _ => false,
        };
        self.last = told.time.or(self.last);
        let kind = told.kind();
        let took = self.took(kind, &mut told);
        let mut what = words(kind, &mut told);
        for (before, text) in [(", ", took), (": ", std::mem::take(&mut told.why))] {
            if !text.is_empty() {
                what = what + before + &text;
            }
        }
        let time = told
            .time
            .and_then(LocalTime::of)
            .map(|time| time.to_string());
        let time = time.unwrap_or_else(|| "at some time".to_owned());
        let service = sanitize(told.service.as_deref().unwrap_or("-").as_bytes());
        let what = sanitize((what + &rest(&told.more)).as_bytes());
        let (color, end) = match kind {
            _ if !self.color => ("", ""),
            Some(EventKind::StartFailed | EventKind::StopFailed | EventKind::Escalation) => {
                ("\x1b[31m", "\x1b[0m")
            }
            Some(EventKind::Ready) => ("\x1b[32m", "\x1b[0m"),
            _ => ("", ""),
        };
        let gap = if gap { "\n" } else { "" };
        let width = self.width;
        format!("{gap}{time:19}  {service:width$}  {color}{what}{end}\n")
    }

    /// How long it took until this event: since the start, or since the first signal of the stop.
    fn took(&mut self, kind: Option<EventKind>, told: &mut Told) -> String {
        use EventKind::*;
        let elapsed = told.more.remove("elapsed_ms").and_then(|ms| ms.as_u64());
        let service = told.service.clone().unwrap_or_default();
        let begun = self.begun.get(&service);
        let stopping = begun.is_some_and(|(_, what)| what != "start");
        let since = begun.and_then(|(begun, what)| {
            let elapsed = told.time?.duration_since(*begun).ok()?;
            Some(format!("{} after {what}", brief(elapsed)))
        });
        match (kind, told.time) {
            (Some(Start), Some(time)) => {
                self.begun.insert(service, (time, "start".to_owned()));
            }
            (Some(Signal), Some(time)) if !stopping => {
                let signal = text(told.more.get("signal")).unwrap_or("the signal".to_owned());
                self.begun.insert(service, (time, signal));
            }
            (Some(Exit), _) if stopping => return since.unwrap_or_default(),
            (Some(Signal | Escalation), _) => return since.unwrap_or_default(),
            (Some(Ready | StartFailed | Cancelled | Stopped | StopFailed), _) => {
                self.begun.remove(&service);
                if let Some(since) = since {
                    return since;
                }
            }
            _ => {}
        }
        let elapsed = elapsed.map(|ms| format!("took {}", brief(Duration::from_millis(ms))));
        elapsed.unwrap_or_default()
    }
}

/// What happened, without how long it took; takes out of `more` what it has said.
fn words(kind: Option<EventKind>, told: &mut Told) -> String {
    use EventKind::*;
    let mut take = |key| text(told.more.remove(key).as_ref());
    let pid = told.pid.map(|pid| format!("PID {pid}"));
    let of = |before: &str| {
        pid.as_ref()
            .map(|pid| format!("{before}{pid}"))
            .unwrap_or_default()
    };
    let Some(kind) = kind else {
        return told.event.replace('_', " ") + &of(", ");
    };
    match kind {
        Prepare => "prepare".to_owned() + &of(", "),
        Start => "started".to_owned() + &of(", "),
        Ready => "ready".to_owned() + &of(", "),
        StartFailed => "start failed".to_owned() + &of(", ") + &status(take("status")),
        Cancelled => "start cancelled".to_owned() + &of(", "),
        Signal => {
            // They tell processes apart for a program, not for a reader; most signals arrive.
            take("start_time");
            let command = take("command").map(|command| format!(" ({command})"));
            let failed = take("result").filter(|result| result != "sent");
            take("signal").unwrap_or("signal".to_owned())
                + " sent"
                + &of(" to ")
                + &command.unwrap_or_default()
                + &status(failed)
        }
        Escalation => {
            let signal = take("signal").unwrap_or("SIGKILL".to_owned());
            let whom = take("processes").filter(|whom| !whom.is_empty());
            let whom = whom.map(|whom| format!(" for PID {whom}"));
            format!("escalated to {signal}") + &whom.unwrap_or_else(|| of(", "))
        }
        Exit => pid.unwrap_or("a process".to_owned()) + " ended" + &status(take("status")),
        Stopped => {
            let outcome = take("outcome").unwrap_or("stopped".to_owned());
            let count = take("processes").filter(|count| count != "1");
            let count = count.map(|count| format!(", {count} processes"));
            outcome + &of(", ") + &count.unwrap_or_default() + &status(take("status"))
        }
        StopFailed => "NOT stopped".to_owned() + &of(", "),
        FoundGone => "found gone".to_owned() + &of(", "),
        StaleRemoved => "stale PID file removed".to_owned() + &of(", "),
        PortFreed => {
            let port = take("port")
                .map(|port| format!(" {port}"))
                .unwrap_or_default();
            format!("port{port} freed{}", of(", "))
        }
        Adopted => "adopted".to_owned() + &of(", "),
        Followed => "went to the background".to_owned() + &of(", now "),
    }
}

fn status(status: Option<String>) -> String {
    status
        .map(|status| format!(" ({status})"))
        .unwrap_or_default()
}

/// What no words were found for, as ` [key value, key value]`.
fn rest(more: &Map<String, Value>) -> String {
    let said = |(key, value)| text(Some(value)).map(|value| format!("{key} {value}"));
    let said: Vec<String> = more.iter().filter_map(said).collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(" [{}]", said.join(", ")),
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => Some(list(values.iter().filter_map(|value| text(Some(value))))),
        Value::Object(keys) => {
            Some(list(keys.iter().filter_map(|(key, value)| {
                Some(format!("{key} {}", text(Some(value))?))
            })))
        }
        other => Some(other.to_string()),
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// `350ms`, `10.2s`, `1m 30s`.
fn brief(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{}ms", duration.as_millis())
    } else if duration < Duration::from_secs(60) {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Vec<String> {
        let mut teller = Teller::new(8, false);
        let told = lines.iter().filter_map(|line| Told::parse(line.as_bytes()));
        told.map(|told| teller.tell(told)).collect()
    }

    /// Without the time, which depends on the time zone.
    fn words_of(lines: &[&str]) -> Vec<String> {
        let after_time = |line: String| line.trim_start_matches('\n')[19..].trim().to_owned();
        told(lines).into_iter().map(after_time).collect()
    }

    #[test]
    fn the_story_of_a_night() {
        let lines = [
            r#"{"time":"2026-11-20T03:00:00.000Z","event":"start","service":"api_8000","pid":12,"why":"pidctl start"}"#,
            r#"{"time":"2026-11-20T03:00:00.350Z","event":"ready","service":"api_8000","pid":12,"why":""}"#,
            r#"{"time":"2026-11-20T03:00:01.000Z","event":"signal","service":"api_8000","pid":12,"why":"pidctl stop","signal":"SIGTERM"}"#,
            r#"{"time":"2026-11-20T03:00:11.000Z","event":"escalation","service":"api_8000","pid":12,"why":"still alive","signal":"SIGKILL","survivors":[13,{"pid":14}]}"#,
            r#"{"time":"2026-11-20T03:00:11.000Z","event":"escalation","service":"api_8000","pid":12,"why":"time is up","processes":["12 (node)","13 (sh)"]}"#,
            r#"{"time":"2026-11-20T03:00:11.200Z","event":"exit","service":"api_8000","pid":12,"why":"","status":"SIGKILL"}"#,
            r#"{"time":"2026-11-20T03:00:11.300Z","event":"stopped","service":"api_8000","pid":12,"why":"","elapsed_ms":10290}"#,
            r#"{"time":"2026-11-20T03:00:11.400Z","event":"port_freed","service":null,"pid":99,"why":"nginx","port":8000}"#,
            r#"{"time":"2026-11-20T03:00:11.500Z","event":"stopped","service":"db","pid":null,"why":"","elapsed_ms":90400}"#,
            r#"{"time":"2026-11-20T03:00:11.600Z","event":"exit","service":"db","pid":7,"why":"","status":"exit 1"}"#,
            r#"{"event":"signal","service":"db","pid":8,"why":"stop","signal":"SIGTERM","command":"sh","start_time":9,"result":"sent"}"#,
            r#"{"event":"signal","service":"db","pid":8,"why":"stop","signal":"SIGTERM","command":"sh","start_time":9,"result":"denied"}"#,
            r#"{"event":"stopped","service":"db","pid":8,"why":"","outcome":"killed","processes":3}"#,
        ];
        assert_eq!(
            words_of(&lines),
            [
                "api_8000  started, PID 12: pidctl start",
                "api_8000  ready, PID 12, 350ms after start",
                "api_8000  SIGTERM sent to PID 12: pidctl stop",
                "api_8000  escalated to SIGKILL, PID 12, 10.0s after SIGTERM: still alive [survivors 13, pid 14]",
                "api_8000  escalated to SIGKILL for PID 12 (node), 13 (sh), 10.0s after SIGTERM: time is up",
                "api_8000  PID 12 ended (SIGKILL), 10.2s after SIGTERM",
                "api_8000  stopped, PID 12, 10.3s after SIGTERM",
                "-         port 8000 freed, PID 99: nginx",
                "db        stopped, took 1m 30s",
                "db        PID 7 ended (exit 1)",
                "db        SIGTERM sent to PID 8 (sh): stop",
                "db        SIGTERM sent to PID 8 (sh) (denied): stop",
                "db        killed, PID 8, 3 processes",
            ]
        );
    }

    #[test]
    fn every_kind_has_words_and_a_newer_one_keeps_its_own() {
        for (event, words) in [
            ("prepare", "prepare, PID 1"),
            ("start_failed", "start failed, PID 1"),
            ("cancelled", "start cancelled, PID 1"),
            ("stop_failed", "NOT stopped, PID 1"),
            ("found_gone", "found gone, PID 1"),
            ("stale_removed", "stale PID file removed, PID 1"),
            ("adopted", "adopted, PID 1"),
            ("followed", "went to the background, now PID 1"),
            ("signal", "signal sent to PID 1"),
            ("not_known_yet", "not known yet, PID 1"),
        ] {
            let line = format!(r#"{{"event":"{event}","pid":1}}"#);
            assert_eq!(
                told(&[&line]),
                [format!("at some time         {:8}  {words}\n", "-")]
            );
        }
    }

    #[test]
    fn what_is_no_event_is_left_out() {
        for line in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"{}",
            b"\xff\xfe\0\0",
            b"{\"event\":7}",
            b"{\"event\":\"start\"",
            b"{\"event\":\"start\"}{}",
        ] {
            assert!(Told::parse(line).is_none());
        }
        let odd = br#"{"event":"start","time":7,"service":[1],"pid":"x","why":null}"#;
        assert!(Told::parse(odd).is_some());
    }

    #[test]
    fn text_of_others_does_nothing_to_the_terminal_and_stays_one_line() {
        let line = r#"{"event":"start","service":"a\u001b[2J","why":"x\ny","k\r":"\u0007"}"#;
        let text = told(&[line]).concat();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(
            text.contains("a^[[2J") && text.contains("x^Jy [k^M ^G]"),
            "{text}"
        );
    }

    #[test]
    fn a_gap_is_an_empty_line() {
        let at = |time: &str| format!(r#"{{"event":"start","time":"2026-11-20T{time}Z"}}"#);
        let lines = told(&[
            &at("03:00:00"),
            &at("03:00:59"),
            &at("03:02:00"),
            &at("02:00:00"),
        ]);
        let gaps: Vec<bool> = lines.iter().map(|line| line.starts_with('\n')).collect();
        assert_eq!(gaps, [false, false, true, false]);
    }
}
