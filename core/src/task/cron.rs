//! When a schedule fires: cron expressions in a time zone.

use std::str::FromStr;
use std::sync::LazyLock;

use croner::Cron;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

use crate::error::{Error, Result};

use super::limits;
use super::model::Schedule;

/// A cron expression is at most this long.
const MAX_CRON_BYTES: usize = 256;

/// The time zones of this build, and not those of the machine: a second run elsewhere must find the same times.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The times of one schedule.
pub struct Times {
    cron: Cron,
    zone: TimeZone,
}

impl Times {
    /// The times of `schedule`.
    ///
    /// # Errors
    /// `InvalidInput` for what is no cron expression or time zone.
    pub fn new(schedule: &Schedule) -> Result<Self> {
        let text = schedule.cron.as_str();
        if text.len() > MAX_CRON_BYTES {
            return Err(Error::invalid("a cron expression is at most 256 bytes").with("bytes", text.len()));
        }
        let cron = Cron::from_str(text).map_err(|error| {
            Error::invalid("not a cron expression of five or six fields").with("cron", text).caused_by(error)
        })?;
        let name = zone(schedule);
        let zone = ZONES.get(name).map_err(|_| {
            Error::invalid("not a time zone such as Europe/Berlin").with("time_zone", limits::cut(name))
        })?;
        Ok(Self { cron, zone })
    }

    /// The first time behind `ms`; none where there is none before the year 5000.
    pub fn after(&self, ms: i64) -> Option<i64> {
        let next = self.cron.find_next_occurrence(&self.at(ms)?, false).ok()?;
        Some(next.timestamp().as_millisecond()).filter(|&next| next > ms)
    }

    /// The last time up to `ms`, itself included.
    pub fn until(&self, ms: i64) -> Option<i64> {
        let last = self.cron.find_previous_occurrence(&self.at(ms)?, true).ok()?;
        Some(last.timestamp().as_millisecond()).filter(|&last| last <= ms)
    }

    fn at(&self, ms: i64) -> Option<Zoned> {
        // Times lie on whole seconds; the part of one that has begun does not make its time pass.
        Some(Timestamp::from_second(ms.div_euclid(1_000)).ok()?.to_zoned(self.zone.clone()))
    }
}

/// The name of the time zone that a schedule's times are in.
pub fn zone(schedule: &Schedule) -> &str {
    schedule.time_zone.as_deref().unwrap_or("UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cron: &str, zone: &str) -> Times {
        let schedule = Schedule { cron: cron.into(), time_zone: Some(zone.into()), ..Schedule::default() };
        Times::new(&schedule).expect("a schedule")
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    /// A job at 02:30 must neither be lost on the day that has no 02:30 nor run twice on the day that has two.
    #[test]
    fn each_day_fires_once_over_both_changes_of_the_clock() {
        let daily = times("30 2 * * *", "Europe/Berlin");
        for (from, days) in [("2026-03-27T12:00:00Z", 5), ("2026-10-23T12:00:00Z", 5)] {
            let mut at = ms(from);
            let mut fired = Vec::new();
            while fired.len() < days {
                at = daily.after(at).expect("there is a next day");
                fired.push(at);
            }
            for pair in fired.windows(2) {
                let hours = (pair[1] - pair[0]) / 3_600_000;
                assert!((23..=25).contains(&hours), "from={from} hours={hours} fired={fired:?}");
            }
            let changes = fired.windows(2).filter(|pair| pair[1] - pair[0] != 24 * 3_600_000).count();
            assert!(changes > 0, "the clock of Berlin changes: {fired:?}");
        }
    }

    /// A job at eight in the morning must not run at nine because it is summer.
    #[test]
    fn times_are_those_of_the_zone() {
        let morning = |zone, from| times("0 8 * * *", zone).after(ms(from));
        assert_eq!(morning("Europe/Berlin", "2026-01-10T00:00:00Z"), Some(ms("2026-01-10T07:00:00Z")));
        assert_eq!(morning("Europe/Berlin", "2026-07-10T00:00:00Z"), Some(ms("2026-07-10T06:00:00Z")));
        assert_eq!(morning("America/New_York", "2026-07-10T00:00:00Z"), Some(ms("2026-07-10T12:00:00Z")));
        assert_eq!(morning("UTC", "2026-07-10T00:00:00Z"), Some(ms("2026-07-10T08:00:00Z")));
    }

    #[test]
    fn times_lie_on_both_sides_of_any_moment() {
        let quarter = times("*/15 * * * *", "UTC");
        let noon = ms("2026-01-01T12:00:00Z");
        assert_eq!(quarter.after(noon), Some(noon + 900_000));
        assert_eq!(quarter.after(noon - 1), Some(noon));
        assert_eq!(quarter.until(noon), Some(noon));
        assert_eq!(quarter.until(noon + 1), Some(noon));
        assert_eq!(quarter.until(noon - 1), Some(noon - 900_000));
    }

    /// An expression that never comes true must not keep the partition busy.
    #[test]
    fn what_never_fires_has_no_next_time() {
        assert_eq!(times("0 0 31 2 *", "UTC").after(ms("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for (cron, zone) in [("", "UTC"), ("* * *", "UTC"), ("61 * * * *", "UTC"), ("* * * * *", "Mars/Olympus")] {
            let schedule = Schedule { cron: cron.into(), time_zone: Some(zone.into()), ..Schedule::default() };
            assert!(Times::new(&schedule).is_err(), "cron={cron} zone={zone}");
        }
    }
}
