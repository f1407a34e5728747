//! The drill as a JUnit report, which CI servers show: one test case for each run of each service.

use super::drill::{Row, Run, Verdict};
use std::io::{self, Write};

pub fn write(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let runs = || rows.iter().flat_map(|row| &row.runs);
    let failures = runs().filter(|run| run.outcome == Verdict::Fail).count();
    let time: u64 = runs().filter_map(|run| run.elapsed_ms).sum();
    let head = format!(
        "name=\"pidctl drill\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{}\"",
        runs().count(),
        seconds(time)
    );
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {head}>\n  <testsuite {head}>\n"
    );
    for row in rows {
        for (number, run) in row.runs.iter().enumerate() {
            let name = match row.runs.len() {
                1 => row.id.clone(),
                _ => format!("{} (run {})", row.id, number + 1),
            };
            text.push_str(&case(&name, run));
        }
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    out.write_all(text.as_bytes())
}

fn case(name: &str, run: &Run) -> String {
    let mut text = format!(
        "    <testcase classname=\"pidctl.drill\" name=\"{}\" time=\"{}\">\n",
        escaped(name),
        seconds(run.elapsed_ms.unwrap_or(0))
    );
    if run.outcome == Verdict::Fail {
        let why = escaped(run.detail.as_deref().unwrap_or("failed"));
        text.push_str(&format!(
            "      <failure message=\"{why}\">{why}</failure>\n"
        ));
    }
    if !run.logged.is_empty() {
        let lines = escaped(&run.logged.join("\n"));
        text.push_str(&format!("      <system-out>{lines}\n</system-out>\n"));
    }
    text.push_str("    </testcase>\n");
    text
}

fn seconds(ms: u64) -> String {
    format!("{:.3}", ms as f64 / 1000.0)
}

/// Fit for text and for an attribute in double quotes. What XML 1.0 cannot hold at all is replaced.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(c),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_taken_for_xml() {
        assert_eq!(
            escaped("<a href=\"x\">&amp;\u{1b}[31m\0\u{ffff}é\n"),
            "&lt;a href=&quot;x&quot;&gt;&amp;amp;\u{fffd}[31m\u{fffd}\u{fffd}é\n"
        );
    }
}
