//! Plots: bars beside each other, and lines over a range, both on logarithmic scales.

use std::fmt::Display;

use offheap_benches::figures::{bytes, time};
use offheap_benches::peers::{Offheap, Peer};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Bars of nanoseconds in panels, one panel per row of a table.
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
}

/// Bars of peers.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<(&'static str, f64)>,
}

/// Lines of nanoseconds.
pub(crate) struct Lines {
    pub(crate) title: String,
    /// What goes from left to right.
    pub(crate) across: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// The line of a peer.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const OURS: RGBColor = RGBColor(0xc2, 0x3b, 0x22);
const OTHERS: RGBColor = RGBColor(0x7a, 0x8c, 0xa3);
/// Of lines, which have to be told from each other.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0x2c, 0x9c, 0x5a),
    RGBColor(0xe0, 0x8e, 0x0b),
    RGBColor(0x7b, 0x4f, 0xa6),
    RGBColor(0x55, 0x55, 0x55),
    RGBColor(0x17, 0xa2, 0xb8),
    RGBColor(0xb8, 0x5c, 0x8a),
];

/// Pixels.
const WIDTH: i32 = 920;
const COLUMNS: usize = 2;
const BAR: i32 = 18;
const TITLE: i32 = 34;
const NAMES: i32 = 152;
const FIGURES: i32 = 62;
const HEIGHT_OF_LINES: i32 = 520;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Bars {
    pub(crate) fn svg(&self) -> String {
        let rows = self.panels.chunks(COLUMNS);
        let heights: Vec<i32> = rows
            .map(|row| row.iter().map(Panel::height).max().unwrap_or(0))
            .collect();
        draw(TITLE + heights.iter().sum::<i32>(), &self.title, |area| {
            let mut top = TITLE;
            let width = WIDTH / COLUMNS as i32;
            for (row, height) in self.panels.chunks(COLUMNS).zip(&heights) {
                for (column, panel) in row.iter().enumerate() {
                    panel.draw(area, column as i32 * width + 8, top, width - 16)?;
                }
                top += height;
            }
            Ok(())
        })
    }
}

impl Panel {
    fn height(&self) -> i32 {
        TITLE + BAR * self.bars.len() as i32 + 12
    }

    fn draw(&self, area: &Area<'_>, left: i32, top: i32, width: i32) -> Drawn {
        text(
            area,
            &self.title,
            (left, top + TITLE - 12),
            14,
            HPos::Left,
            &BLACK,
        )?;
        let least = self
            .bars
            .iter()
            .map(|bar| bar.1)
            .fold(f64::INFINITY, f64::min);
        let most = self.bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
        let (from, to) = (least.max(0.1).log10().floor(), most.max(1.0).log10().ceil());
        let (begin, end) = (left + NAMES, left + width - FIGURES);
        let at =
            |ns: f64| begin + ((end - begin) as f64 * (ns.log10() - from) / (to - from)) as i32;
        let bottom = top + self.height() - 12;
        for decade in from as i32..=to as i32 {
            let x = at(10f64.powi(decade));
            let line = vec![(x, top + TITLE), (x, bottom)];
            area.draw(&PathElement::new(line, BLACK.mix(0.15)))?;
        }
        let mut bars = self.bars.clone();
        bars.sort_by(|a, b| a.1.total_cmp(&b.1));
        for (number, (name, ns)) in bars.into_iter().enumerate() {
            let y = top + TITLE + BAR * number as i32;
            let (middle, color) = (y + BAR / 2, color(name));
            text(area, name, (begin - 6, middle), 12, HPos::Right, &BLACK)?;
            let bar = [(begin, y + 2), (at(ns).max(begin + 1), y + BAR - 2)];
            area.draw(&Rectangle::new(bar, color.filled()))?;
            text(
                area,
                time(ns),
                (at(ns).max(begin) + 5, middle),
                12,
                HPos::Left,
                &BLACK,
            )?;
        }
        Ok(())
    }
}

impl Lines {
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let range = |figure: fn(&(f64, f64)) -> f64| {
            let (low, high) = points()
                .map(figure)
                .fold((f64::INFINITY, 0.0f64), |(low, high), value| {
                    (low.min(value), high.max(value))
                });
            (low.max(0.1), high.max(0.2))
        };
        let (across, up) = (range(|point| point.0), range(|point| point.1));
        draw(HEIGHT_OF_LINES, &self.title, |area| {
            let area = area.margin(TITLE, 8, 8, 24);
            let mut chart = ChartBuilder::on(&area)
                .x_label_area_size(44)
                .y_label_area_size(72)
                .build_cartesian_2d(
                    (across.0..across.1).log_scale().base(2.0),
                    decades(up).log_scale(),
                )?;
            let sizes = self.across == BYTES;
            let label = |x: &f64| {
                if sizes {
                    bytes(x.round() as usize)
                } else {
                    format!("{x:.0}")
                }
            };
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .x_desc(self.across)
                .x_label_formatter(&label)
                .y_label_formatter(&|ns: &f64| time(*ns))
                .label_style(("sans-serif", 13))
                .draw()?;
            for (number, line) in self.lines.iter().enumerate() {
                let ours = line.name == Offheap::NAME;
                let color = if ours {
                    OURS
                } else {
                    PALETTE[number % PALETTE.len()]
                };
                let style = color.stroke_width(if ours { 3 } else { 2 });
                let key = move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style);
                chart
                    .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?
                    .label(line.name)
                    .legend(key);
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.2))
                .label_font(("sans-serif", 13))
                .draw()?;
            Ok(())
        })
    }
}

/// Whole decades around a range, so that there are figures at its axis.
fn decades((low, high): (f64, f64)) -> std::ops::Range<f64> {
    let from = low.log10().floor();
    10f64.powf(from)..10f64.powf(high.log10().ceil().max(from + 1.0))
}

/// What [`Lines::across`] says where it is a size.
pub(crate) const BYTES: &str = "bytes of the buffer";

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(height: i32, title: &str, inside: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    let drawn = {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        (|| -> Drawn {
            area.fill(&WHITE)?;
            text(
                &area,
                title,
                (WIDTH / 2, TITLE / 2),
                18,
                HPos::Center,
                &BLACK,
            )?;
            inside(&area)?;
            Ok(area.present()?)
        })()
    };
    // Into a string nothing fails but the figures themselves.
    if let Err(error) = drawn {
        eprintln!("{title}: {error}");
    }
    svg
}

fn text(
    area: &Area<'_>,
    text: impl Display,
    at: (i32, i32),
    size: i32,
    side: HPos,
    color: &RGBColor,
) -> Drawn {
    let style = TextStyle::from(("sans-serif", size).into_font())
        .color(color)
        .pos(Pos::new(side, VPos::Center));
    Ok(area.draw(&Text::new(text.to_string(), at, style))?)
}

fn color(name: &str) -> RGBColor {
    if name == Offheap::NAME {
        OURS
    } else {
        OTHERS
    }
}
