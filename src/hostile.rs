//! What property tests put into parsers: any bytes, pieces of a grammar in any order, valid text damaged,
//! and a fragment repeated, which takes a parser long whose time is not linear.

use nix::time::{ClockId, clock_gettime};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::time::Duration;

/// Far more than what is not repeated takes in a debug build.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many, or as many as `PROPTEST_CASES` says. A failure prints its smallest input, which belongs in a
/// test of its own, not in a file of seeds.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Input of every kind but the long one, made of these pieces and these valid texts.
pub fn hostile(pieces: &'static [&'static str], valid: Vec<String>) -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        1 => vec(any::<u8>(), 0..200),
        3 => shuffled(pieces),
        5 => select(valid).prop_flat_map(|text| damaged(text.into_bytes())),
    ]
    .boxed()
}

fn shuffled(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
        1 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// A fragment for `assert_linear`.
pub fn fragment(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(pieces), 1..4).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Eight times the length may take eight times as long; three times of that, three times in a row, is no
/// accident.
pub fn assert_linear(fragment: &[u8], parse: impl Fn(&[u8])) {
    let took = |length: usize| {
        let text = fragment.repeat(length / fragment.len());
        took(|| parse(&text)).1
    };
    let odd = |(short, long): &(Duration, Duration)| {
        *long > Duration::from_millis(200) && *long > *short * 24
    };
    let measure = |_| (took(16 << 10), took(128 << 10));
    let measured: Vec<_> = (0..3).map(measure).take_while(odd).collect();
    assert!(
        measured.len() < 3,
        "it took, and for eight times the length: {measured:?}"
    );
}

/// What befalls a text: which kind of accident, from where to where, with which byte.
pub type Accident = (u8, Index, Index, u8);

pub fn accidents() -> impl Strategy<Value = Vec<Accident>> {
    vec((0..6u8, any::<Index>(), any::<Index>(), any::<u8>()), 0..5)
}

/// The text after a bit or byte was changed, or a part lost, doubled, put in or cut off.
pub fn after(accidents: &[Accident], text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (kind, at, other, byte) in accidents {
        let (from, to) = (at.index(text.len() + 1), other.index(text.len() + 1));
        let part = from.min(to)..from.max(to);
        match kind {
            0 if from < text.len() => text[from] ^= 1 << (byte % 8),
            1 if from < text.len() => text[from] = *byte,
            2 => text.insert(from, *byte),
            3 => drop(text.drain(part)),
            4 => text.extend_from_within(part),
            _ => text.truncate(from),
        }
    }
    text
}

pub fn damaged(text: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    accidents().prop_map(move |accidents| after(&accidents, &text))
}

pub fn in_time<T>(work: impl FnOnce() -> T) -> T {
    let (result, took) = took(work);
    assert!(took < PATIENCE, "it took {took:?}");
    result
}

/// The processor time of this thread alone: the machine may be busy.
fn took<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let before = now();
    let result = work();
    (result, now() - before)
}
