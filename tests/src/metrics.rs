//! What `/metrics` says, as numbers.

use std::collections::BTreeMap;

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<Sample>);

impl Metrics {
    /// Reads the OpenMetrics text format.
    ///
    /// # Panics
    /// When a line is none of it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(sample).collect())
    }

    /// The sum of all samples of `name` that have these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).map(|sample| sample.value).sum()
    }

    /// The sums of `name` by the value of the label `by`.
    #[must_use]
    pub fn by(&self, name: &str, by: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name, &[]) {
            let key = sample.labels.get(by).cloned().unwrap_or_default();
            *sums.entry(key).or_default() += sample.value;
        }
        sums
    }

    fn of<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            let matches = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).is_some_and(|own| own == value)
            };
            sample.name == name && labels.iter().all(matches)
        })
    }
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let (series, value) = line
        .rsplit_once(' ')
        .unwrap_or_else(|| panic!("no value in `{line}`"));
    let value = value
        .parse()
        .unwrap_or_else(|_| panic!("no number at the end of `{line}`"));
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, rest)) => (name, read_labels(rest.trim_end_matches('}'))),
    };
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}

/// `a="1",b="2"`; no label value of ours holds a quote or a comma.
fn read_labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_scrape() {
        let metrics = Metrics::parse(
            "# HELP weir_a_total Things.\n# TYPE weir_a counter\nweir_a_total{p=\"0\",q=\"x\"} 3\n\
             weir_a_total{p=\"0\",q=\"y\"} 4\nweir_a_total{p=\"1\",q=\"x\"} 5\nweir_b 0.5\n# EOF\n",
        );
        assert_eq!(metrics.sum("weir_a_total", &[("q", "x")]), 8.0);
        assert_eq!(metrics.sum("weir_a_total", &[("q", "x"), ("p", "1")]), 5.0);
        assert_eq!(metrics.sum("weir_b", &[]), 0.5);
        assert_eq!(metrics.sum("weir_c", &[]), 0.0);
        let by = metrics.by("weir_a_total", "p");
        assert_eq!(
            by.into_iter().collect::<Vec<_>>(),
            [("0".into(), 7.0), ("1".into(), 5.0)]
        );
    }
}
