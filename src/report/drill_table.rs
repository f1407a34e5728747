//! A drill as people read it: each service's time against its time-out, and what went wrong.

use super::drill::{Row, Run, Seen, Verdict, verb};
use super::results::seconds;
use super::{Ink, Style};

const HEAD: [&str; 7] = ["SERVICE", "RESULT", "TIME", "", "LEADER", "EXIT", "PORT"];

pub fn table(style: &Style, rows: &[Row]) -> String {
    let shown: Vec<(&Row, &Run)> = rows
        .iter()
        .filter(|row| !style.quiet || !row.passes())
        .filter_map(|row| Some((row, row.worst()?)))
        .collect();
    let cells: Vec<[String; 7]> = shown.iter().map(|(row, run)| cells(row, run)).collect();
    let width = |column: usize| {
        let all = cells.iter().map(|cells| cells[column].len());
        all.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |cells: &[String; 7], ink: Option<Ink>| {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let fill = " ".repeat(widths[column] - cell.len());
            match ink {
                None => style.paint(Ink::Bold, cell) + &fill,
                Some(ink) if column == 1 => style.paint(ink, cell) + &fill,
                Some(_) => cell.clone() + &fill,
            }
        });
        let text = padded.collect::<Vec<_>>().join("  ");
        text.trim_end().to_string() + "\n"
    };
    let mut text = String::new();
    if !shown.is_empty() {
        text.push_str(&line(&HEAD.map(str::to_string), None));
    }
    for ((row, run), cells) in shown.iter().zip(&cells) {
        let ink = match row.passes() {
            true => Ink::Green,
            false => Ink::Red,
        };
        text.push_str(&line(cells, Some(ink)));
        for told in details(style, row, run) {
            text.push_str(&format!("    {}\n", style.paint(Ink::Dim, &told)));
        }
    }
    text
}

fn cells(row: &Row, run: &Run) -> [String; 7] {
    let word = match row.passes() {
        true => "pass",
        false => "FAIL",
    };
    let passed = row
        .runs
        .iter()
        .filter(|run| run.outcome == Verdict::Pass)
        .count();
    [
        row.id.clone(),
        match row.runs.len() {
            1 => word.to_string(),
            all => format!("{word} {passed}/{all}"),
        },
        run.elapsed_ms.map_or("-".to_string(), seconds),
        run.elapsed_ms
            .map_or(String::new(), |ms| bar(ms, row.timeout_ms)),
        run.handling.clone(),
        exit(run),
        port(run),
    ]
}

fn exit(run: &Run) -> String {
    match (&run.exit_signal, run.exit_status) {
        (Some(signal), _) => signal.clone(),
        (None, Some(status)) => status.to_string(),
        (None, None) => "-".to_string(),
    }
}

fn port(run: &Run) -> String {
    match (run.port_released, run.port_released_ms) {
        (None, _) => "-".to_string(),
        (Some(false), _) => "held".to_string(),
        (Some(true), None) => "free".to_string(),
        (Some(true), Some(ms)) => format!("free after {}", seconds(ms)),
    }
}

/// `[####----------------] of 10s`: the time against the time-out.
fn bar(elapsed_ms: u64, timeout_ms: u64) -> String {
    const WIDTH: u64 = 20;
    let filled = match timeout_ms {
        0 => WIDTH,
        timeout => (elapsed_ms * WIDTH).div_ceil(timeout).min(WIDTH),
    };
    let timeout = humantime::format_duration(std::time::Duration::from_millis(timeout_ms));
    format!(
        "[{}{}] of {timeout}",
        "#".repeat(filled as usize),
        "-".repeat((WIDTH - filled) as usize)
    )
}

fn details(style: &Style, row: &Row, run: &Run) -> Vec<String> {
    let mut told: Vec<String> = run.detail.iter().cloned().collect();
    if style.verbose || !row.passes() {
        told.extend(run.processes.iter().map(process));
    }
    if style.verbose {
        let receipts = run.receipts.iter().map(super::results::receipt);
        told.extend(receipts.map(|line| line.trim_start().to_string()));
    }
    if !row.passes() && !run.logged.is_empty() {
        told.push(match run.elapsed_ms {
            Some(_) => "logged after the signal:".to_string(),
            None => "its last output:".to_string(),
        });
        told.extend(run.logged.iter().map(|line| format!("  | {line}")));
    }
    told
}

/// `PID 4242 (node) catches it, ended after 0.20 s`
fn process(seen: &Seen) -> String {
    let command = super::harmless(&seen.command);
    let mut text = format!("PID {} ({command})", seen.pid);
    match seen.reception {
        Some(reception) => text.push_str(&format!(" {} it", verb(reception))),
        None => text.push_str(" came after the signal"),
    }
    if !seen.signalled {
        text.push_str(", got no signal");
    }
    text.push_str(match (seen.killed, seen.ended_ms) {
        (true, _) => ", killed",
        (false, Some(_)) => ", ended",
        (false, None) => ", its end was not seen",
    });
    if let Some(ms) = seen.ended_ms {
        text.push_str(&format!(" after {}", seconds(ms)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_shows_the_time_against_the_time_out() {
        assert_eq!(bar(0, 10_000), "[--------------------] of 10s");
        assert_eq!(bar(1, 10_000), "[#-------------------] of 10s");
        assert_eq!(bar(5_000, 10_000), "[##########----------] of 10s");
        assert_eq!(bar(99_000, 10_000), "[####################] of 10s");
        assert_eq!(bar(3, 0), "[####################] of 0s");
    }
}
