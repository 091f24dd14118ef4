//! Figures as one table.

use std::fmt::Write as _;

/// One figure of every round.
#[derive(Debug, Clone, Default)]
pub struct Rounds(pub Vec<f64>);

impl Rounds {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match (sorted.get(middle.saturating_sub(1)), sorted.get(middle)) {
            (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => f64::midpoint(*below, *above),
            (_, Some(value)) => *value,
            _ => f64::NAN,
        }
    }

    /// Round by round.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect())
    }

    pub fn divided_by(&self, divisor: f64) -> Self {
        Self(self.0.iter().map(|value| value / divisor).collect())
    }

    /// Median, least and most.
    pub fn show(&self, digits: usize) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{:.digits$} ({least:.digits$}–{most:.digits$})", self.median())
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Only to be known.
    None,
}

#[derive(Debug, Default)]
pub struct Report {
    rows: String,
    missed: Vec<String>,
}

impl Report {
    /// `figure` is compared with the bar; `about` says what else is worth knowing.
    pub fn row(&mut self, number: &str, what: &str, figure: &Rounds, digits: usize, bar: Bar, about: &str) {
        let median = figure.median();
        let (bar, verdict) = match bar {
            Bar::AtLeast(least) => (format!("≥ {least}"), Some(median >= least)),
            Bar::AtMost(most) => (format!("≤ {most:.digits$}"), Some(median <= most)),
            Bar::None => (String::new(), None),
        };
        let verdict = match verdict {
            Some(true) => "holds",
            Some(false) => {
                self.missed.push(number.to_owned());
                "**missed**"
            }
            None => "",
        };
        let _ = writeln!(self.rows, "| {number} | {what} | {} | {bar} | {verdict} | {about} |", figure.show(digits));
    }

    pub fn print(&self) {
        println!("\n| # | what | median (least–most) | bar | | for comparison |\n|-|-|-|-|-|-|\n{}", self.rows);
        if self.missed.is_empty() {
            println!("Every bar holds.");
        } else {
            println!("Missed: {}. On a busy machine run it again before believing that.", self.missed.join(", "));
        }
    }
}
