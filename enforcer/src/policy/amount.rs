//! The numbers of a limit: counts as they are, money as `"20 USD"`, soft levels as parts of the hard one.

use schemas::money::{MoneyError, format_usd, parse_usd};
use schemas::policy::{Level, Meter, part_of};

use super::reader::Value;

/// A number of `meter`'s unit, above zero. `field` is what it was given for, for the error's example.
pub(super) fn amount(meter: &Meter, field: &str, value: &Value<'_>) -> Result<i128, String> {
    let amount = if *meter == Meter::Cost {
        money(field, value)?
    } else {
        count(meter, field, value)?
    };
    if amount <= 0 {
        return Err(format!("`{field}` must be above zero"));
    }
    Ok(amount)
}

fn count(meter: &Meter, field: &str, value: &Value<'_>) -> Result<i128, String> {
    if let Some(count) = value.integer() {
        return Ok(count.into());
    }
    let (name, kind) = (meter.name(), value.kind());
    Err(match value.text() {
        Some(text) => format!(
            "`{field}` of {name} is a whole number without quotes or unit, such as 60000, not \"{text}\""
        ),
        None if value.is_integer() => format!("`{field}` is at most {}", i64::MAX),
        None => format!("`{field}` of {name} is a whole number, such as 60000, not {kind}"),
    })
}

fn money(field: &str, value: &Value<'_>) -> Result<i128, String> {
    let Some(text) = value.text() else {
        let example = example_of_money(field);
        return Err(if value.is_number() {
            format!("an amount of money needs its unit: write {example}")
        } else {
            format!(
                "an amount of money is text such as {example}, not {}",
                value.kind()
            )
        });
    };
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words.as_slice() {
        [number, "USD"] => parse_usd(number)
            .map(i128::from)
            .map_err(|error| match error {
                MoneyError::NotANumber => format!("`{number}` is {error}"),
                _ => format!("{number} USD is {error}"),
            }),
        [number] if parse_usd(number).is_ok() => Err(format!(
            "an amount of money needs its unit: write \"{number} USD\""
        )),
        _ => Err(format!(
            "\"{text}\" is no amount of money: write {}, in US dollars",
            example_of_money(field)
        )),
    }
}

fn example_of_money(field: &str) -> &'static str {
    if field == "soft" {
        "`soft = [\"16 USD\"]`"
    } else {
        "`hard = \"20 USD\"`"
    }
}

/// One soft level of a limit whose hard number is `hard`.
pub(super) fn soft_level(meter: &Meter, hard: i128, value: &Value<'_>) -> Result<Level, String> {
    let percent = value.text().and_then(|text| text.strip_suffix('%'));
    let level = match percent {
        Some(percent) => Level {
            threshold: part_of(hard, whole_percent(percent)?),
            name: format!("{}%", percent.trim()),
        },
        None => {
            let threshold = amount(meter, "soft", value).map_err(or_a_percentage)?;
            let name = match meter {
                Meter::Cost => format!("{} USD", format_usd(threshold)),
                _ => threshold.to_string(),
            };
            Level { name, threshold }
        }
    };
    if hard <= level.threshold {
        let (shown, hard) = (shown(meter, level.threshold), shown(meter, hard));
        return Err(if percent.is_some() {
            format!(
                "{} of {hard} is {shown}, which is not below the hard number",
                level.name
            )
        } else {
            format!("a soft level lies below the hard number: {shown} is not below {hard}")
        });
    }
    Ok(level)
}

fn or_a_percentage(error: String) -> String {
    format!("{error}; or a part of the hard number: `soft = [\"80%\"]`")
}

fn whole_percent(text: &str) -> Result<i128, String> {
    let percent: Option<i128> = text.trim().parse().ok();
    percent
        .filter(|percent| (1..=99).contains(percent))
        .ok_or_else(|| format!("a soft level is a whole percentage from 1% to 99%, not {text}%"))
}

fn shown(meter: &Meter, amount: i128) -> String {
    match meter {
        Meter::Cost => format!("{} USD", format_usd(amount)),
        _ => amount.to_string(),
    }
}
