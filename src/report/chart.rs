//! Line charts over steps, as SVG. Colours come from the page's style, so that they
//! suit light and dark; each series also has a mark of its own shape.

use maud::{Markup, html};

use super::axis::Axis;
use super::numbers::{figure, of, percent};

/// Width of every chart, in its own units.
pub const WIDTH: f64 = 460.0;

/// Height of a line chart, and the margins of its plot.
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;

/// Points of a line that are drawn, and points that show their value under the pointer.
const DRAWN: usize = 600;
const HOVERED: usize = 60;

/// Number of series colours in the style; colour 0 is the baseline's.
pub const COLOURS: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Plain,
    /// Shares, shown as per cent.
    Percent,
}

pub struct Line {
    pub name: String,
    pub colour: usize,
    /// One seed of several.
    pub thin: bool,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart<'a> {
    pub title: &'a str,
    /// One sentence about what is shown.
    pub about: &'a str,
    pub unit: Unit,
    pub lines: Vec<Line>,
    /// A step that is marked, and its name.
    pub mark: Option<(f64, &'a str)>,
}

impl Chart<'_> {
    /// The figure; nothing if no line has a point.
    pub fn draw(&self) -> Option<Markup> {
        let scale = if self.unit == Unit::Percent { 100.0 } else { 1.0 };
        let finite = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        let points: Vec<(f64, f64)> =
            self.lines.iter().flat_map(|l| &l.points).copied().filter(finite).collect();
        if points.is_empty() {
            return None;
        }
        let heights = points.iter().map(|p| p.1 * scale);
        let (least, most) = points.iter().fold((f64::MAX, 0.0f64), |(a, b), p| (a.min(p.1), b.max(p.1)));
        let log = self.unit == Unit::Plain && least > 0.0 && most / least > 20.0;
        let y = if log { Axis::log(heights) } else { Axis::robust(heights, 5) };
        let last = points.iter().map(|p| p.0).fold(0.0, f64::max);
        let x = Axis { low: 0.0, high: last.max(1.0), ..Axis::linear([0.0, last], 5) };
        let inside = |v: &f64| y.place(*v).is_some_and(|p| (0.0..=1.0).contains(&p));
        let outside = points.iter().filter(|p| !inside(&(p.1 * scale))).count();
        let frame = Frame { x, y, scale, unit: self.unit };
        let about = self.about;
        Some(html! {
            figure.chart {
                figcaption { strong { (self.title) } " " span.muted { (about) @if log { " Logarithmic." } } }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.alternative()) {
                    (frame.draw())
                    // A nested viewport cuts off what lies outside the plot.
                    svg x=(LEFT) y=(TOP) width=(plot_width()) height=(plot_height()) viewBox=(frame.view_box()) {
                        @if let Some((step, name)) = self.mark {
                            (frame.mark(step, name))
                        }
                        @for line in self.lines.iter().filter(|l| l.thin) { (frame.line(line)) }
                        @for line in self.lines.iter().filter(|l| !l.thin) { (frame.line(line)) }
                    }
                    @for line in self.lines.iter().filter(|l| !l.thin) { (frame.end(line)) }
                    @for line in self.lines.iter().filter(|l| !l.thin) { (frame.hover(line)) }
                }
                @if outside > 0 {
                    p.aside { (of(outside, "point")) " outside the axis " (if outside == 1 { "is" } else { "are" }) " not drawn." }
                }
            }
        })
    }

    /// What a reader who does not see the chart is told.
    fn alternative(&self) -> String {
        let value = |v: f64| if self.unit == Unit::Percent { percent(v) } else { figure(v) };
        let ends: Vec<String> = self
            .lines
            .iter()
            .filter(|l| !l.thin)
            .filter_map(|l| {
                let mut finite = l.points.iter().filter(|p| p.1.is_finite());
                let (first, last) = (finite.next()?, finite.next_back());
                let last = last.unwrap_or(first);
                Some(format!(
                    "{}: {} at step {}, {} at step {}",
                    l.name,
                    value(first.1),
                    first.0,
                    value(last.1),
                    last.0
                ))
            })
            .collect();
        format!("Line chart. {} {} {}.", self.title, self.about, ends.join("; "))
    }
}

fn plot_width() -> f64 {
    WIDTH - LEFT - RIGHT
}

fn plot_height() -> f64 {
    HEIGHT - TOP - BOTTOM
}

/// The coordinate system of a chart.
struct Frame {
    x: Axis,
    y: Axis,
    /// From values to the units of the y axis.
    scale: f64,
    unit: Unit,
}

impl Frame {
    /// Position of a point in the units of the chart; `None` of what the axes cannot place.
    fn at(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let (x, y) = (self.x.place(x)?, self.y.place(y * self.scale)?);
        // Far outside is as good as infinitely far, and keeps coordinates short.
        let (x, y) = (x.clamp(-3.0, 4.0), y.clamp(-3.0, 4.0));
        Some((LEFT + x * plot_width(), TOP + (1.0 - y) * plot_height()))
    }

    fn view_box(&self) -> String {
        format!("{LEFT} {TOP} {} {}", plot_width(), plot_height())
    }

    /// Axes, grid and labels.
    fn draw(&self) -> Markup {
        let bottom = TOP + plot_height();
        let suffix = if self.unit == Unit::Percent { "%" } else { "" };
        html! {
            @for (tick, place) in self.y.ticks_inside() {
                @let y = TOP + (1.0 - place) * plot_height();
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(y)) y2=(short(y)) {}
                text x=(LEFT - 6.0) y=(short(y + 4.5)) text-anchor="end" { (self.y.label(tick)) (suffix) }
            }
            line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(bottom) y2=(bottom) {}
            @for (tick, place) in self.x.ticks_inside() {
                @let x = LEFT + place * plot_width();
                line.axis x1=(short(x)) x2=(short(x)) y1=(bottom) y2=(bottom + 4.0) {}
                text x=(short(x)) y=(bottom + 18.0) text-anchor="middle" { (self.x.label(tick)) }
            }
            text x=(LEFT + plot_width() / 2.0) y=(HEIGHT - 5.0) text-anchor="middle" { "step" }
        }
    }

    /// A line, broken where a value cannot be drawn.
    fn line(&self, line: &Line) -> Markup {
        let mut path = String::new();
        let mut pen_down = false;
        for point in thinned(&line.points, DRAWN) {
            let Some((x, y)) = self.at(point) else {
                pen_down = false;
                continue;
            };
            path += &format!("{}{} {}", if pen_down { "L" } else { "M" }, short(x), short(y));
            pen_down = true;
        }
        html! {
            path class=(format!("line c{}{}", line.colour % COLOURS, if line.thin { " thin" } else { "" })) d=(path) {
                title { (line.name) }
            }
        }
    }

    /// The series' mark on its last point inside the plot.
    fn end(&self, line: &Line) -> Markup {
        let last = line.points.iter().rev().filter_map(|p| self.at(*p)).next();
        let inside = |(_, y): &(f64, f64)| (TOP..=TOP + plot_height()).contains(y);
        html! {
            @if let Some((x, y)) = last.filter(inside) { (glyph(line.colour, x, y)) }
        }
    }

    /// Unseen targets that name their value under the pointer.
    fn hover(&self, line: &Line) -> Markup {
        let value = |v: f64| if self.unit == Unit::Percent { percent(v) } else { figure(v) };
        let inside = |y: f64| (TOP..=TOP + plot_height()).contains(&y);
        html! {
            @for point in thinned(&line.points, HOVERED) {
                @if let Some((x, y)) = self.at(point).filter(|p| inside(p.1)) {
                    circle.hit cx=(short(x)) cy=(short(y)) r="7" {
                        title { (line.name) ", step " (point.0) ": " (value(point.1)) }
                    }
                }
            }
        }
    }

    fn mark(&self, step: f64, name: &str) -> Markup {
        let Some(place) = self.x.place(step).filter(|p| (0.0..=1.0).contains(p)) else { return html! {} };
        let x = LEFT + place * plot_width();
        let (anchor, shift) = if place > 0.7 { ("end", -5.0) } else { ("start", 5.0) };
        html! {
            line.mark x1=(short(x)) x2=(short(x)) y1=(TOP) y2=(TOP + plot_height()) {}
            text x=(short(x + shift)) y=(TOP + plot_height() - 8.0) text-anchor=(anchor) { (name) }
        }
    }
}

/// At most about `most` of the points: evenly chosen, with the last.
fn thinned(points: &[(f64, f64)], most: usize) -> impl Iterator<Item = (f64, f64)> {
    let every = points.len().div_ceil(most).max(1);
    let last = points.len().wrapping_sub(1);
    points.iter().enumerate().filter(move |(i, _)| i % every == 0 || *i == last).map(|(_, p)| *p)
}

/// Coordinates to a tenth.
pub fn short(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The mark of a series: circle, square, triangle, diamond and so on, by its colour.
fn glyph(colour: usize, x: f64, y: f64) -> Markup {
    let class = format!("glyph c{}", colour % COLOURS);
    let path = |shape: &[(f64, f64)]| {
        let corners: Vec<String> =
            shape.iter().map(|(a, b)| format!("{} {}", short(x + a), short(y + b))).collect();
        format!("M{}Z", corners.join("L"))
    };
    let shape: &[(f64, f64)] = match colour % COLOURS {
        1 => &[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (-4.0, 4.0)],
        2 => &[(0.0, -5.2), (5.0, 3.8), (-5.0, 3.8)],
        3 => &[(0.0, -5.6), (5.6, 0.0), (0.0, 5.6), (-5.6, 0.0)],
        4 => &[(0.0, 5.2), (5.0, -3.8), (-5.0, -3.8)],
        5 => &[(-5.4, -2.2), (5.4, -2.2), (5.4, 2.2), (-5.4, 2.2)],
        6 => &[(-2.2, -5.4), (2.2, -5.4), (2.2, 5.4), (-2.2, 5.4)],
        _ => return html! { circle class=(class) cx=(short(x)) cy=(short(y)) r="4.2" {} },
    };
    html! { path class=(class) d=(path(shape)) {} }
}

/// Colours and marks of series, by name.
pub fn legend(series: &[(String, usize)], thin: bool) -> Markup {
    html! {
        ul.legend {
            @for (name, colour) in series {
                li {
                    svg viewBox="0 0 28 14" width="28" height="14" aria-hidden="true" {
                        path class=(format!("line c{}", colour % COLOURS)) d="M1 7L27 7" {}
                        (glyph(*colour, 14.0, 7.0))
                    }
                    (name)
                }
            }
            @if thin { li.muted { "thick: mean of the seeds; thin: each seed" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(points: Vec<(f64, f64)>, unit: Unit) -> Option<String> {
        let lines = vec![Line { name: "a<b".into(), colour: 1, thin: false, points }];
        let chart = Chart { title: "T", about: "A.", unit, lines, mark: None };
        chart.draw().map(|m| m.into_string())
    }

    fn paths(svg: &str) -> Vec<&str> {
        svg.split("<path class=\"line")
            .skip(1)
            .filter_map(|p| p.split("d=\"").nth(1)?.split('"').next())
            .collect()
    }

    #[test]
    fn nothing_to_draw_is_nothing() {
        assert_eq!(draw(vec![], Unit::Plain), None);
        assert_eq!(draw(vec![(1.0, f64::NAN)], Unit::Percent), None);
    }

    #[test]
    fn a_line_is_broken_where_a_value_is_not_finite() {
        let svg =
            draw(vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)], Unit::Plain).unwrap();
        assert_eq!(paths(&svg)[0].matches('M').count(), 2);
        assert_eq!(paths(&svg)[0].matches('L').count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains("a&lt;b, step 3: 1.000") && !svg.contains("a<b"));
    }

    #[test]
    fn values_outside_the_axis_are_counted_and_stay_finite() {
        let mut points: Vec<(f64, f64)> =
            (0..50).map(|i| (f64::from(i), 0.9 + f64::from(i % 5) / 100.0)).collect();
        points[7].1 = 1e300;
        let svg = draw(points, Unit::Percent).unwrap();
        assert!(svg.contains("1\u{a0}point outside the axis is not drawn"));
        let numbers = paths(&svg)[0].split(['M', 'L', ' ']).filter(|t| !t.is_empty());
        assert!(numbers.clone().count() == 100);
        assert!(numbers.map(|t| t.parse::<f64>().unwrap()).all(|v| v.abs() < 2000.0));
    }

    #[test]
    fn a_wide_range_of_losses_gets_a_log_axis() {
        let wide = draw(vec![(0.0, 2.0), (1.0, 0.01)], Unit::Plain).unwrap();
        assert!(wide.contains("Logarithmic"));
        assert!(!draw(vec![(0.0, 2.0), (1.0, 0.0)], Unit::Plain).unwrap().contains("Logarithmic"));
        assert!(!draw(vec![(0.0, 2.0), (1.0, 1.0)], Unit::Plain).unwrap().contains("Logarithmic"));
        assert!(draw(vec![(5.0, 1.0)], Unit::Plain).is_some());
    }

    #[test]
    fn long_lines_are_thinned_but_keep_their_ends() {
        let points: Vec<(f64, f64)> = (0..10_001).map(|i| (f64::from(i), 1.0)).collect();
        let few: Vec<(f64, f64)> = thinned(&points, 100).collect();
        assert!(few.len() <= 102);
        assert_eq!((few[0].0, few[few.len() - 1].0), (0.0, 10_000.0));
        assert_eq!(thinned(&[], 5).count(), 0);
    }
}
