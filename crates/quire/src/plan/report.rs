//! `--report`: one HTML file that needs no network, with a map of the regions and the links
//! between them, and bars that show how full servers are. Pure: what it gives is text.

use super::show;
use capacity::{Answer, Judged, Wanted, check::Checked, say};
use std::{f64::consts::TAU, fmt::Write};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color:#222;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;\
margin-top:2.5rem}table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;\
text-align:left}td.n{text-align:right}code{background:#f2f2f2;padding:.1rem .3rem}\
svg{max-width:100%}.bad{color:#a4262c}";
/// By what a bar is filled.
const WRITES: &str = "#b4532a";
const READS: &str = "#3b6ea5";
const FREE: &str = "#e6e6e6";

/// Text as HTML takes it.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    )
}

pub(super) fn of_answer(wanted: &Wanted, answer: &Answer) -> String {
    let mut body = String::new();
    match answer {
        Answer::Plan(plan) => {
            for (place, judged) in plan.best.iter().enumerate() {
                let title = escaped(&show::title(wanted, judged));
                let _ = writeln!(body, "<h2>{}. {title}</h2>", place + 1);
                body.push_str(&layout(wanted, judged));
            }
            let why = plan.others.iter().map(|o| format!("{}: {}", o.what, o.why));
            add_list(&mut body, "Why not otherwise", "", why);
        }
        Answer::Infeasible(why) => {
            let head = match why.together {
                true => "Nothing keeps all of it; these together would do",
                false => "Nothing keeps all of it; any one of these would do",
            };
            let what = why
                .relaxations
                .iter()
                .map(|r| format!("{}; then {}", r.what, show::title(wanted, &r.judged)));
            add_list(&mut body, head, "", what);
        }
    }
    page(&format!("Plan for {}", wanted.file().name), &body)
}

pub(super) fn of_check(wanted: &Wanted, name: &str, checked: &Checked) -> String {
    let title = escaped(&show::title(wanted, &checked.judged));
    let mut body = format!("<p>{title}</p>\n{}", layout(wanted, &checked.judged));
    use capacity::check::Kind;
    for (kind, head, class) in [
        (Kind::Broken, "What it doesn't keep", "bad"),
        (Kind::Claim, "What is claimed of it", ""),
        (Kind::Note, "To know", ""),
    ] {
        let of_kind = checked.findings.iter().filter(|f| f.kind == kind);
        add_list(&mut body, head, class, of_kind.map(|f| f.says.clone()));
    }
    page(name, &body)
}

fn add_list(body: &mut String, head: &str, class: &str, lines: impl Iterator<Item = String>) {
    let items: String = lines
        .map(|line| format!("<li>{}</li>\n", escaped(&line)))
        .collect();
    if !items.is_empty() {
        let _ = writeln!(
            body,
            "<h2>{}</h2>\n<ul class=\"{class}\">\n{items}</ul>",
            escaped(head)
        );
    }
}

fn layout(wanted: &Wanted, judged: &Judged) -> String {
    let figures = &judged.figures;
    let mut text = map(wanted, judged);
    text.push_str(&bars(wanted, judged));
    text.push_str(
        "<table><tr><th>region<th>servers<th>write ms<th>read ms<th>age ms<th>reads answered</tr>\n",
    );
    for (region, of) in figures.regions.iter().enumerate() {
        let _ = writeln!(
            text,
            "<tr><td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}</tr>",
            escaped(wanted.region(region)),
            escaped(&show::servers(wanted, of)),
            of.write_ms.map_or("never".into(), |w| say::short(w.worst)),
            say::short(of.read_ms),
            say::short(of.staleness_ms),
            say::availability(of.read_downtime.availability())
        );
    }
    let _ = writeln!(
        text,
        "</table>\n<p>Writes are answered {} of the time; an acknowledged one survives the loss of {}. {} on all disks, {}/s between regions. With any one server down the busiest of the others does up to {}.</p>",
        say::availability(figures.write_downtime.availability()),
        show::survives(figures.survives),
        say::bytes(figures.storage_bytes),
        say::bytes(figures.network_bytes_per_s),
        say::percent(figures.used_with_one_down)
    );
    let words = match (judged.layout.runs(), judged.layout.create_line(wanted)) {
        (Err(why), _) => escaped(why),
        (Ok(()), line) => format!("<code>{}</code>", escaped(&line.unwrap_or_default())),
    };
    let _ = writeln!(text, "<p>{words}</p>");
    text
}

/// Regions on a circle, in the file's order; a line for each link, with its latency.
fn map(wanted: &Wanted, judged: &Judged) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 300.0;
    let n = wanted.regions();
    let place = |region: usize| {
        let turn = TAU * region as f64 / n as f64 - TAU / 4.0;
        let (x, y) = (WIDTH / 2.0, HEIGHT / 2.0);
        (x + 230.0 * turn.cos(), y + 95.0 * turn.sin())
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\" aria-label=\"map of the regions\" font-size=\"13\" text-anchor=\"middle\">\n"
    );
    for a in 0..n {
        for b in a + 1..n {
            let ((ax, ay), (bx, by)) = (place(a), place(b));
            let _ = writeln!(
                svg,
                "<line x1=\"{ax:.0}\" y1=\"{ay:.0}\" x2=\"{bx:.0}\" y2=\"{by:.0}\" stroke=\"#bbb\"/><text x=\"{:.0}\" y=\"{:.0}\" fill=\"#666\">{} ms</text>",
                (ax + bx) / 2.0,
                (ay + by) / 2.0 - 4.0,
                say::short(wanted.one_way_ms(a, b))
            );
        }
    }
    for region in 0..n {
        let (x, y) = place(region);
        let layout = &judged.layout;
        let led = layout.primaries[region];
        let (fill, ring) = match layout.copies[region] {
            0 => ("#fff", "#bbb"),
            _ if led > 0 => ("#fbe9df", WRITES),
            _ => ("#e4edf6", READS),
        };
        let mut held = say::count(layout.servers_in(region), "server");
        if led > 0 {
            held.push_str(&format!(", {led} led"));
        }
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"34\" fill=\"{fill}\" stroke=\"{ring}\" stroke-width=\"2\"/><text x=\"{x:.0}\" y=\"{:.0}\" font-weight=\"bold\">{}</text><text x=\"{x:.0}\" y=\"{:.0}\">{held}</text>",
            y + 4.0,
            escaped(wanted.region(region)),
            y + 50.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A bar for each type of servers in each region: how full the busiest is.
fn bars(wanted: &Wanted, judged: &Judged) -> String {
    const FULL: f64 = 300.0;
    const LEFT: f64 = 170.0;
    const STEP: f64 = 26.0;
    /// Fuller than this is drawn as this.
    const MOST: f64 = 1.5;
    let mut rows = String::new();
    let mut y = 0.0;
    for (region, of) in judged.figures.regions.iter().enumerate() {
        for s in &of.servers {
            let used = s.utilisation;
            let writes = used.writes.min(MOST) * FULL;
            let reads = used.reads.min(MOST - used.writes.min(MOST)) * FULL;
            let _ = writeln!(
                rows,
                "<text x=\"0\" y=\"{:.0}\">{}: {} {}</text><rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{FULL}\" height=\"16\" fill=\"{FREE}\"/><rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{writes:.1}\" height=\"16\" fill=\"{WRITES}\"/><rect x=\"{:.1}\" y=\"{y:.0}\" width=\"{reads:.1}\" height=\"16\" fill=\"{READS}\"/><text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
                y + 13.0,
                escaped(wanted.region(region)),
                s.count,
                escaped(&wanted.server_type(s.server_type).name),
                LEFT + writes,
                LEFT + MOST * FULL + 8.0,
                y + 13.0,
                say::percent(used.both)
            );
            y += STEP;
        }
    }
    format!(
        "<svg viewBox=\"0 0 720 {:.0}\" width=\"720\" role=\"img\" aria-label=\"utilisation of servers\" font-size=\"13\">\n{rows}<text x=\"{LEFT}\" y=\"{:.0}\"><tspan fill=\"{WRITES}\">writes</tspan> <tspan fill=\"{READS}\">reads</tspan>, of the busiest server; grey is what one can do</text></svg>\n",
        y + 24.0,
        y + 16.0
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{as_drawn, reference},
        *,
    };

    #[test]
    fn the_page_needs_nothing_else_and_has_a_bar_for_each_kind_of_server() {
        let wanted = reference();
        let pages = [
            of_answer(&wanted, &capacity::search(&wanted)),
            of_check(&wanted, "as-drawn", &as_drawn()),
        ];
        for page in &pages {
            for reference in ["http:", "https:", "src=", "href=", "@import", "url("] {
                assert!(!page.contains(reference), "the page asks for {reference}");
            }
            assert!(
                page.contains("100 ms") && page.contains("150 ms"),
                "links have latencies"
            );
        }
        assert!(pages[0].contains("88.9 %"));
        // us: one primary and two replicas; eu; asia.
        assert_eq!(pages[1].matches(&format!("fill=\"{FREE}\"")).count(), 4);
    }

    #[test]
    fn names_are_text() {
        assert_eq!(escaped("<a & 'b'>"), "&lt;a &amp; &#39;b&#39;&gt;");
    }
}
