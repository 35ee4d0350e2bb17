//! Durations in words.

/// `0.4 ms`, `12 ms`, `1.2 s`.
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// How long ago something was: `just now`, `12 s ago`, `3 min ago`, `2 h ago`, `4 d ago`.
pub fn ago(then_ms: u64, now_ms: f64) -> String {
    let seconds = ((now_ms - then_ms as f64) / 1e3).max(0.0) as u64;
    match seconds {
        0..3 => "just now".to_owned(),
        3..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// How long something lasts yet: `less than a minute`, `12 min`, `2 h`, `4 d`.
pub fn span(ms: f64) -> String {
    let minutes = (ms.max(0.0) / 60e3) as u64;
    match minutes {
        0 => "less than a minute".to_owned(),
        1..120 => format!("{minutes} min"),
        120..2_880 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (us, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1.0 ms"),
            (9_949, "9.9 ms"),
            (10_000, "10 ms"),
            (999_999, "999 ms"),
            (1_250_000, "1.2 s"),
        ] {
            assert_eq!(micros(us), text);
        }
    }

    #[test]
    fn the_past_reads_well_and_the_future_is_now() {
        for (then, text) in [(100_000, "just now"), (200_000, "just now"), (97_000, "3 s ago"), (40_000, "1 min ago")] {
            assert_eq!(ago(then, 100_000.0), text);
        }
        assert_eq!(ago(0, 7_300_000.0), "2 h ago");
        assert_eq!(ago(0, 200_000_000.0), "2 d ago");
    }

    #[test]
    fn the_future_reads_well() {
        for (ms, text) in [(-1.0, "less than a minute"), (61e3, "1 min"), (7.2e6, "2 h"), (2e8, "2 d")] {
            assert_eq!(span(ms), text);
        }
    }
}
