//! Drawing a histogram as SVG.

use std::fmt::Write;

use crate::random::Histogram;

const LEFT: u32 = 12;
const RIGHT: u32 = 12;
const TOP: u32 = 36;
const BOTTOM: u32 = 26;

/// The bars of `histogram` above its axis, with a sentence that says the same in words.
pub fn render(histogram: &Histogram, width: u32, height: u32) -> String {
    let (width, height) = (width.clamp(160, 8_192), height.clamp(90, 8_192));
    let plot = (width - LEFT - RIGHT, height - TOP - BOTTOM);
    let bars = merge(histogram.counts(), plot.0 as usize);
    let base = TOP + plot.1;
    let (start, end) = (*histogram.range().start(), *histogram.range().end());
    let (least, most) = extremes(histogram.counts());
    let title = format!("{} random numbers from {start} to {end}", grouped(histogram.count()));
    let summary = format!(
        "each value came up {} to {} times; method {}, seed {}",
        grouped(least),
        grouped(most),
        histogram.method(),
        histogram.seed(),
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\
         <title>{title}</title><desc>{summary}</desc>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"15\" font-weight=\"600\">{title}</text>\
         <text x=\"{LEFT}\" y=\"30\" fill=\"#555\">{summary}</text>\
         <path fill=\"#3b6ea8\" d=\""
    );
    outline(&mut svg, &bars, plot, base);
    write!(
        svg,
        "\"/><path stroke=\"#333\" d=\"M{LEFT} {base}.5h{}\"/>\
         <text x=\"{LEFT}\" y=\"{}\">{start}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end}</text></svg>",
        plot.0,
        height - 9,
        width - RIGHT,
        height - 9,
    )
    .expect("writing to a string cannot fail");
    svg
}

/// At most `most` bars of means; the means of neighbours of unequal number stay comparable, their sums would not.
fn merge(counts: &[u64], most: usize) -> Vec<f64> {
    let bars = counts.len().min(most);
    let edge = |bar: usize| bar * counts.len() / bars;
    let mean = |values: &[u64]| values.iter().map(|&count| count as f64).sum::<f64>() / values.len() as f64;
    (0..bars).map(|bar| mean(&counts[edge(bar)..edge(bar + 1)])).collect()
}

/// One path around all bars: a page with 1 000 elements would be slow to draw and to read out.
fn outline(svg: &mut String, bars: &[f64], (width, height): (u32, u32), base: u32) {
    let highest = bars.iter().copied().fold(0.0, f64::max);
    let step = f64::from(width) / bars.len() as f64;
    write!(svg, "M{LEFT} {base}").expect("writing to a string cannot fail");
    for (index, bar) in bars.iter().enumerate() {
        let share = if highest > 0.0 { bar / highest } else { 0.0 };
        let top = f64::from(base) - share * f64::from(height);
        let right = f64::from(LEFT) + step * (index + 1) as f64;
        write!(svg, "V{top:.1}H{right:.1}").expect("writing to a string cannot fail");
    }
    write!(svg, "V{base}Z").expect("writing to a string cannot fail");
}

fn extremes(counts: &[u64]) -> (u64, u64) {
    let least = counts.iter().min().copied().unwrap_or(0);
    (least, counts.iter().max().copied().unwrap_or(0))
}

/// `number` in groups of three, as people read it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
