//! Figures taken in turn, and their ratios.

use std::fmt;

use crate::say;

/// The smallest, middle and largest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// Half of the figures are not above it.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of `figures`; none of none.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { min, median, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 10.0 { 3 } else { 0 };
        let Self { min, median, max } = self;
        write!(f, "{min:>12.digits$} {median:>12.digits$} {max:>12.digits$}")
    }
}

/// The figures of several subjects. All subjects run once in a round, one after another, so that what
/// disturbs the machine for a while disturbs each of them; a ratio is taken within its round.
#[derive(Debug)]
pub struct Rounds {
    title: String,
    unit: &'static str,
    subjects: Vec<(String, Vec<f64>)>,
}

impl Rounds {
    /// No figures yet; `unit` is what they are in.
    pub fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self { title: title.into(), unit, subjects: Vec::new() }
    }

    /// Adds the figure of `subject` in the current round.
    pub fn add(&mut self, subject: &str, figure: f64) {
        match self.subjects.iter_mut().find(|(name, _)| name == subject) {
            Some((_, figures)) => figures.push(figure),
            None => self.subjects.push((subject.to_owned(), vec![figure])),
        }
    }

    /// The ratio of two subjects, round by round.
    ///
    /// # Panics
    /// When one of them has no figures.
    pub fn ratio(&self, of: &str, to: &str) -> Spread {
        let ratios: Vec<f64> = self.figures(of).iter().zip(self.figures(to)).map(|(of, to)| of / to).collect();
        Spread::of(&ratios).expect("both subjects ran")
    }

    /// Prints the figures of every subject.
    pub fn print(&self) {
        let rounds = self.subjects.iter().map(|(_, figures)| figures.len()).max().unwrap_or(0);
        say(format_args!("\n{} ({}, {rounds} rounds)", self.title, self.unit));
        say(format_args!("  {:<34} {:>12} {:>12} {:>12}", "", "min", "median", "max"));
        for (name, figures) in &self.subjects {
            say(format_args!("  {name:<34} {}", Spread::of(figures).expect("a subject has a figure")));
        }
    }

    /// Prints the ratio of `of` to `to`.
    pub fn report(&self, of: &str, to: &str) {
        say(format_args!("  {:<34} {}", format!("{of} / {to}"), self.ratio(of, to)));
    }

    /// Prints the ratio of `of` to `to`, and whether its median is at least `goal`.
    pub fn at_least(&self, of: &str, to: &str, goal: f64) {
        self.judge(of, to, "at least", goal, |median| median >= goal);
    }

    /// Prints the ratio of `of` to `to`, and whether its median is at most `goal`.
    pub fn at_most(&self, of: &str, to: &str, goal: f64) {
        self.judge(of, to, "at most", goal, |median| median <= goal);
    }

    /// Prints whether the largest figure of `subject` is at most `goal`.
    pub fn goal(&self, subject: &str, goal: f64) {
        let spread = Spread::of(self.figures(subject)).expect("the subject ran");
        let verdict = if spread.max <= goal { "reached" } else { "MISSED" };
        say(format_args!("  {subject:<34} at most {goal} {}: {verdict}", self.unit));
    }

    fn judge(&self, of: &str, to: &str, bound: &str, goal: f64, holds: impl Fn(f64) -> bool) {
        let ratio = self.ratio(of, to);
        let verdict = if holds(ratio.median) { "reached" } else { "MISSED" };
        say(format_args!("  {:<34} {ratio}   goal: {bound} {goal}: {verdict}", format!("{of} / {to}")));
    }

    fn figures(&self, subject: &str) -> &[f64] {
        self.subjects.iter().find(|(name, _)| name == subject).map_or(&[], |(_, figures)| figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A ratio of two medians would mix a quiet round of one subject with a loud one of the other.
    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let mut rounds = Rounds::new("made up", "calls/s");
        for (kappa, raw) in [(8.0, 10.0), (1.0, 2.0), (6.0, 10.0)] {
            rounds.add("kappa", kappa);
            rounds.add("raw", raw);
        }
        assert_eq!(rounds.ratio("kappa", "raw"), Spread { min: 0.5, median: 0.6, max: 0.8 });
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
