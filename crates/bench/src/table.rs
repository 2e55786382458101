use std::time::Duration;

/// One line of the result.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) p50: String,
    pub(crate) p95: String,
    pub(crate) yardstick: String,
    pub(crate) ratio: Option<f64>,
    pub(crate) aim: String,
}

/// Prints the table.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:<44} {:>10} {:>10} {:>14} {:>7}  aim",
        "what", "p50", "p95", "docker run p50", "ratio"
    );
    for row in rows {
        let ratio = row
            .ratio
            .map(|ratio| format!("{ratio:.2}"))
            .unwrap_or_default();
        println!(
            "{:<44} {:>10} {:>10} {:>14} {:>7}  {}",
            row.name, row.p50, row.p95, row.yardstick, ratio, row.aim
        );
    }
}

/// The value below which `part` of all lie.
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Seconds for people.
pub(crate) fn seconds(value: f64) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    let duration = Duration::from_secs_f64(value.max(0.0));
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}
