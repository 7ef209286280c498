//! Over which time a limit sums, and how that is written: `sliding 60s`, `bucket 10/s burst 50`, `calendar day`, `wallet`,
//! `concurrent`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest sliding window: 30 days.
pub const SLIDING_SECONDS_MAX: u32 = 30 * 86_400;

/// A calendar's period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    Day,
    /// From Monday.
    Week,
    WeekFromSunday,
    Month,
}

/// Over which time a limit sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Window {
    /// The last so many seconds, at any moment.
    Sliding { seconds: u32 },
    /// A bucket that drains `amount` every `seconds` and holds `burst`.
    Bucket {
        amount: u64,
        seconds: u32,
        burst: u64,
    },
    /// A calendar's day, week or month in the tenant's time zone.
    Calendar(Period),
    /// All that was ever counted: what is spent of what was paid in.
    Wallet,
    /// No time at all: what is reserved and has not ended. What has ended does not count.
    Concurrent,
}

impl Window {
    /// Width of the slices that a sliding window is made of, in seconds. The oldest slice counts in full, so a
    /// window never holds more than its limit in any span of its length. `None` for other windows.
    #[must_use]
    pub const fn slice_seconds(self) -> Option<u32> {
        match self {
            Window::Sliding { seconds } if seconds <= 600 => Some(1),
            Window::Sliding { seconds } if seconds <= 36_000 => Some(60),
            Window::Sliding { .. } => Some(3_600),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WindowError {
    #[error(
        "`{0}` is no window: write `sliding 60s`, `bucket 10/s burst 50`, `calendar day|week|month`, `wallet` or `concurrent`"
    )]
    Shape(String),
    #[error("`{0}` is no span of time: a whole number and s, m, h or d, such as 60s")]
    Span(String),
    #[error("a sliding window lasts from 1s to 30d, not {0}")]
    Length(String),
    #[error("a window of {0} must be a whole number of {1}-second slices")]
    Slices(String, u32),
    #[error(
        "a bucket's rate and burst are whole numbers above zero, such as `bucket 10/s burst 50`"
    )]
    Bucket,
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["sliding", span] => sliding(span),
            ["bucket", rate, "burst", burst] => bucket(rate, burst),
            ["calendar", "day"] => Ok(Window::Calendar(Period::Day)),
            ["calendar", "week"] => Ok(Window::Calendar(Period::Week)),
            ["calendar", "week", "from", "sunday"] => Ok(Window::Calendar(Period::WeekFromSunday)),
            ["calendar", "month"] => Ok(Window::Calendar(Period::Month)),
            ["wallet"] => Ok(Window::Wallet),
            ["concurrent"] => Ok(Window::Concurrent),
            _ => Err(WindowError::Shape(text.to_owned())),
        }
    }
}

fn sliding(span: &str) -> Result<Window, WindowError> {
    let seconds = parse_span(span)?;
    if !(1..=SLIDING_SECONDS_MAX).contains(&seconds) {
        return Err(WindowError::Length(span.to_owned()));
    }
    let window = Window::Sliding { seconds };
    match window.slice_seconds() {
        Some(slice) if !seconds.is_multiple_of(slice) => {
            Err(WindowError::Slices(span.to_owned(), slice))
        }
        _ => Ok(window),
    }
}

fn bucket(rate: &str, burst: &str) -> Result<Window, WindowError> {
    let (amount, per) = rate.split_once('/').ok_or(WindowError::Bucket)?;
    let amount = amount.parse().map_err(|_| WindowError::Bucket)?;
    let burst = burst.parse().map_err(|_| WindowError::Bucket)?;
    let unit = if per.starts_with(|c: char| c.is_ascii_digit()) {
        per.to_owned()
    } else {
        format!("1{per}")
    };
    let seconds = parse_span(&unit)?;
    if amount == 0 || burst == 0 || seconds == 0 {
        return Err(WindowError::Bucket);
    }
    Ok(Window::Bucket {
        amount,
        seconds,
        burst,
    })
}

/// `60s`, `5m`, `2h`, `30d` in seconds.
pub fn parse_span(text: &str) -> Result<u32, WindowError> {
    let error = || WindowError::Span(text.to_owned());
    let unit = text.chars().last().ok_or_else(error)?;
    let number = text.strip_suffix(unit).ok_or_else(error)?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error());
    }
    let number: u32 = number.parse().map_err(|_| error())?;
    let scale = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(error()),
    };
    number.checked_mul(scale).ok_or_else(error)
}

/// `60s`, `5m`, `2h`: the largest unit that divides the span.
fn write_span(f: &mut fmt::Formatter<'_>, seconds: u32) -> fmt::Result {
    match seconds {
        s if s.is_multiple_of(86_400) => write!(f, "{}d", s / 86_400),
        s if s.is_multiple_of(3_600) => write!(f, "{}h", s / 3_600),
        s if s.is_multiple_of(60) && s != 60 => write!(f, "{}m", s / 60),
        s => write!(f, "{s}s"),
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Window::Sliding { seconds } => {
                f.write_str("sliding ")?;
                write_span(f, seconds)
            }
            Window::Bucket {
                amount,
                seconds,
                burst,
            } => {
                write!(f, "bucket {amount}/")?;
                write_span(f, seconds)?;
                write!(f, " burst {burst}")
            }
            Window::Calendar(Period::Day) => f.write_str("calendar day"),
            Window::Calendar(Period::Week) => f.write_str("calendar week"),
            Window::Calendar(Period::WeekFromSunday) => f.write_str("calendar week from sunday"),
            Window::Calendar(Period::Month) => f.write_str("calendar month"),
            Window::Wallet => f.write_str("wallet"),
            Window::Concurrent => f.write_str("concurrent"),
        }
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> String {
        window.to_string()
    }
}
