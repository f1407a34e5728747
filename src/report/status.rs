//! The table of `status`.

use super::{Ink, Style};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    Starting,
    Stopping,
    Unhealthy,
    Orphaned,
    Stale,
    Stopped,
    Unknown,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Starting => "starting",
            State::Stopping => "stopping",
            State::Unhealthy => "unhealthy",
            State::Orphaned => "orphaned",
            State::Stale => "stale",
            State::Stopped => "stopped",
            State::Unknown => "unknown",
        }
    }

    fn ink(self) -> Ink {
        match self {
            State::Running => Ink::Green,
            State::Starting | State::Stopping | State::Stale => Ink::Yellow,
            State::Unhealthy | State::Orphaned | State::Unknown => Ink::Red,
            State::Stopped => Ink::Dim,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthWord {
    Ok,
    Failing,
    None,
}

impl HealthWord {
    fn word(self) -> &'static str {
        match self {
            HealthWord::Ok => "ok",
            HealthWord::Failing => "failing",
            HealthWord::None => "-",
        }
    }
}

/// One service as `status` tells it; the JSON's keys.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub id: String,
    pub name: String,
    pub port: Option<u16>,
    pub state: State,
    pub pid: Option<i32>,
    /// RFC 3339, UTC.
    pub started_at: Option<String>,
    pub uptime_s: Option<u64>,
    pub processes: Option<usize>,
    /// Resident memory of the family.
    pub memory_bytes: Option<u64>,
    pub health: HealthWord,
    pub changed: Vec<&'static str>,
    pub log: Option<String>,
    pub detail: Option<String>,
    #[serde(skip)]
    pub description: String,
}

/// The table as text. Columns are as wide as their widest cell. With `--quiet`, of what is not running
/// alone; nothing where all run.
pub fn table(style: &Style, rows: &[Row]) -> String {
    const HEAD: [&str; 9] = [
        "ID",
        "STATE",
        "PID",
        "UPTIME",
        "MEMORY",
        "PROCS",
        "PORT",
        "HEALTH",
        "DESCRIPTION",
    ];
    let rows: Vec<&Row> = rows
        .iter()
        .filter(|row| !style.quiet || row.state != State::Running)
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let dash = || "-".to_string();
    let cells: Vec<[String; 9]> = rows
        .iter()
        .map(|row| {
            [
                row.id.clone(),
                row.state.word().to_string(),
                row.pid.map_or_else(dash, |pid| pid.to_string()),
                row.uptime_s.map_or_else(dash, uptime),
                row.memory_bytes.map_or_else(dash, memory),
                row.processes.map_or_else(dash, |count| count.to_string()),
                row.port.map_or_else(dash, |port| port.to_string()),
                row.health.word().to_string(),
                super::harmless(&row.description),
            ]
        })
        .collect();
    let width = |column: usize| {
        cells
            .iter()
            .map(|row| row[column].chars().count())
            .chain([HEAD[column].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut text = String::new();
    let render = |cells: &[String; 9], state: Option<State>| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let fill = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let right = matches!(column, 2..=6);
            let cell = match state {
                Some(state) if column == 1 => style.paint(state.ink(), cell),
                None => style.paint(Ink::Bold, cell),
                _ => cell.clone(),
            };
            line.push_str(&if right {
                format!("{fill}{cell}  ")
            } else {
                format!("{cell}{fill}  ")
            });
        }
        line.trim_end().to_string()
    };
    text.push_str(&render(&HEAD.map(str::to_string), None));
    text.push('\n');
    for (row, cells) in rows.into_iter().zip(&cells) {
        text.push_str(&render(cells, Some(row.state)));
        text.push('\n');
        for told in row.detail.iter().cloned().chain(changed(row)) {
            text.push_str(&format!(
                "  {}\n",
                style.paint(Ink::Dim, &super::harmless(&told))
            ));
        }
    }
    text
}

fn changed(row: &Row) -> Option<String> {
    (!row.changed.is_empty()).then(|| {
        format!(
            "the {} changed since its start (restart applies it)",
            row.changed.join(" and the ")
        )
    })
}

/// `42s`, `3m07s`, `5h12m`, `3d04h`.
pub fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// `812 KiB`, `23.4 MiB`.
pub fn memory(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    match kib {
        ..1024.0 => format!("{kib:.0} KiB"),
        ..1_048_576.0 => format!("{:.1} MiB", kib / 1024.0),
        _ => format!("{:.1} GiB", kib / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_as_people_read_them() {
        assert_eq!(
            [uptime(59), uptime(187), uptime(18720), uptime(273_600)],
            ["59s", "3m07s", "5h12m", "3d04h"]
        );
        assert_eq!(
            [
                memory(0),
                memory(900 << 10),
                memory(24 << 20),
                memory(3 << 30)
            ],
            ["0 KiB", "900 KiB", "24.0 MiB", "3.0 GiB"]
        );
    }
}
