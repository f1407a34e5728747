//! Durations and sizes as people write them: `1m30s`, `0.5`, `10MiB`. The table, the command line and
//! stop schedules all read them here.

use super::errors::quoted;
use std::time::Duration;

/// Every wait is bounded: a duration past a year is a mistake, and it would overflow clocks.
pub const LONGEST: Duration = Duration::from_secs(365 * 86_400);

pub const EXPECTED_DURATION: &str =
    "a duration such as 500ms, 10s or 1m30s, or a number of seconds";
pub const EXPECTED_SIZE: &str = "a size such as 10MiB or 500KB, or a number of bytes";

/// In the order in which they may follow each other, in nanoseconds.
const TIME_UNITS: [(&str, u128); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// In lower case, in bytes. A bare letter is binary, as systemd, docker and logrotate take it.
const SIZE_UNITS: [(&str, u128); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

/// `500ms`, `10s`, `1m30s`, `1.5s`, or a bare number of seconds. The error says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    checked(text, EXPECTED_DURATION, nanoseconds).and_then(|nanoseconds| {
        u64::try_from(nanoseconds)
            .map(Duration::from_nanos)
            .ok()
            .filter(|duration| *duration <= LONGEST)
            .ok_or_else(|| too_long(text))
    })
}

/// A number of seconds that is not text: TOML's own `0.5`.
pub fn seconds(number: f64) -> Result<Duration, String> {
    if number < 0.0 {
        return Err(format!(
            "{number} is negative; expected {EXPECTED_DURATION}"
        ));
    }
    if !number.is_finite() {
        return Err(format!(
            "{number} is no duration; expected {EXPECTED_DURATION}"
        ));
    }
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| too_long(&number.to_string()))
}

/// `10MiB`, `500KB`, or bare bytes; units in any case. The error says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    checked(text, EXPECTED_SIZE, bytes).and_then(|bytes| {
        u64::try_from(bytes).map_err(|_| format!("{} is too large", quoted(text)))
    })
}

fn checked(text: &str, expected: &str, parse: fn(&str) -> Option<u128>) -> Result<u128, String> {
    parse(text).ok_or_else(|| {
        let negative = text.strip_prefix('-').and_then(parse).is_some();
        let text = quoted(text);
        let why = if negative { "negative" } else { "malformed" };
        format!("{text} is {why}; expected {expected}")
    })
}

fn too_long(text: &str) -> String {
    format!("{} is too long; expected at most 365 days", quoted(text))
}

fn nanoseconds(text: &str) -> Option<u128> {
    let mut units = &TIME_UNITS[..];
    let mut total = 0u128;
    let mut rest = text;
    loop {
        let (number, after) = Decimal::split_from(rest)?;
        if after.is_empty() && rest.len() == text.len() {
            return number.times(1_000_000_000);
        }
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let place = units.iter().position(|(name, _)| *name == unit)?;
        let (_, scale) = units.get(place)?;
        total = total.checked_add(number.times(*scale)?)?;
        units = units.get(place + 1..)?;
        rest = after;
        if rest.is_empty() {
            return Some(total);
        }
    }
}

fn bytes(text: &str) -> Option<u128> {
    let (number, unit) = Decimal::split_from(text)?;
    let unit = unit.to_ascii_lowercase();
    let (_, scale) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.times(*scale)
}

/// A number as written, kept exact.
struct Decimal<'a> {
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// The number that `text` begins with, and what follows it.
    fn split_from(text: &'a str) -> Option<(Decimal<'a>, &'a str)> {
        let digits = |text: &'a str| {
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            Some(text.split_at(end)).filter(|(digits, _)| !digits.is_empty())
        };
        let (whole, rest) = digits(text)?;
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => digits(after)?,
            None => ("", rest),
        };
        Some((Decimal { whole, fraction }, rest))
    }

    fn times(&self, scale: u128) -> Option<u128> {
        let whole = self.whole.parse::<u128>().ok()?.checked_mul(scale)?;
        // Digits past the 18th are below a nanosecond, and could overflow.
        let fraction = self.fraction.get(..18).unwrap_or(self.fraction);
        if fraction.is_empty() {
            return Some(whole);
        }
        let part = fraction.parse::<u128>().ok()? * scale / 10u128.pow(fraction.len() as u32);
        whole.checked_add(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_every_form() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d1h1m1s1ms", 90_061_001),
            ("10", 10_000),
            ("0", 0),
            ("0.5", 500),
            ("1.5s", 1_500),
            ("0.25m", 15_000),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_that_are_none() {
        for text in [
            "", " ", "s", "10 s", " 10s", "10x", "1s1m", "1s1s", "1m30", ".5", "5.", "1e3", "ten",
            "+5", "--5s", "10S", "1..5s", "٣s",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(
                error.contains("malformed") && error.contains("500ms"),
                "{error}"
            );
        }
        assert!(parse_duration("-5s").unwrap_err().contains("negative"));
        assert!(parse_duration("366d").unwrap_err().contains("365 days"));
        assert!(
            parse_duration("99999999999999999999h")
                .unwrap_err()
                .contains("365 days")
        );
        assert!(parse_duration(&"9".repeat(60)).is_err());
        assert!(parse_duration(&format!("0.{}s", "9".repeat(60))).is_ok());
    }

    #[test]
    fn seconds_as_numbers() {
        assert_eq!(seconds(0.5), Ok(Duration::from_millis(500)));
        assert!(seconds(-0.5).unwrap_err().contains("negative"));
        for number in [f64::NAN, f64::INFINITY, 1e300] {
            assert!(seconds(number).is_err(), "{number}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("10MiB", 10 << 20),
            ("500KB", 500_000),
            ("123", 123),
            ("0", 0),
            ("1k", 1024),
            ("1.5GiB", 3 << 29),
            ("2gb", 2_000_000_000),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "10 MiB", "10XB", "1.5.5M", "lots", "0x10"] {
            assert!(parse_size(text).unwrap_err().contains("10MiB"), "{text}");
        }
        assert!(parse_size("-1MiB").unwrap_err().contains("negative"));
        assert!(parse_size("99999999999TiB").is_err());
    }
}
