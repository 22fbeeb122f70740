//! The numbers of a rule that are no integers.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How likely it is that a rule strikes: above 0, up to 1; kept in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct FaultRate(u32);

const BILLION: f64 = 1e9;

impl FaultRate {
    /// Tells whether a number drawn by chance is one at which the rule strikes.
    pub(crate) fn strikes(self, drawn: u64) -> bool {
        drawn % (BILLION as u64) < u64::from(self.0)
    }
}

impl TryFrom<f64> for FaultRate {
    type Error = String;

    fn try_from(rate: f64) -> Result<FaultRate, String> {
        let billionths = (rate * BILLION).round();
        match (1.0..=BILLION).contains(&billionths) && rate <= 1.0 {
            true => Ok(FaultRate(billionths as u32)),
            false => Err(format!(
                "expected a rate above 0, a billionth at least, and up to 1, found {rate}"
            )),
        }
    }
}

impl From<FaultRate> for f64 {
    fn from(rate: FaultRate) -> f64 {
        f64::from(rate.0) / BILLION
    }
}

impl fmt::Display for FaultRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f64::from(*self).fmt(f)
    }
}

/// A time, as a number of seconds; kept in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Seconds(u64);

/// The longest [`Seconds`]: a year and more.
const MAX_SECONDS: f64 = 4e7;

impl Seconds {
    /// Returns the time.
    pub fn duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl From<Duration> for Seconds {
    /// Cuts what is shorter than a microsecond off.
    fn from(time: Duration) -> Seconds {
        Seconds(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Seconds, String> {
        match (0.0..=MAX_SECONDS).contains(&seconds) {
            true => Ok(Seconds((seconds * 1e6).round() as u64)),
            false => Err(format!("expected seconds, 0 to {MAX_SECONDS}, found {seconds}")),
        }
    }
}

impl From<Seconds> for f64 {
    fn from(seconds: Seconds) -> f64 {
        seconds.0 as f64 / 1e6
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f64::from(*self).fmt(f)
    }
}
