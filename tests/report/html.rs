//! A strict reader of the HTML that reports consist of: every element closed in order, every attribute
//! quoted, no bare `<` or `&`.

use std::collections::HashSet;

/// Elements that have no end.
const VOID: [&str; 4] = ["meta", "img", "br", "hr"];

#[derive(Debug, Default)]
pub struct Page {
    /// All text between tags, entities resolved, without the style sheet.
    pub text: String,
    /// Every element with its attributes.
    pub elements: Vec<(String, Vec<(String, String)>)>,
}

impl Page {
    pub fn read(html: &str) -> Result<Page, String> {
        let mut rest = html.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
        let (mut page, mut open) = (Page::default(), Vec::<String>::new());
        while !rest.is_empty() {
            let Some(tag) = rest.strip_prefix('<') else {
                let end = rest.find('<').unwrap_or(rest.len());
                if open.last().is_none_or(|e| e != "style") {
                    page.text += &unescape(&rest[..end])?;
                }
                rest = &rest[end..];
                continue;
            };
            let end = end_of(tag)?;
            let inner = &tag[..end];
            rest = &tag[end + 1..];
            if let Some(name) = inner.strip_prefix('/') {
                let last = open.pop();
                if last.as_deref() != Some(name) {
                    return Err(format!("</{name}> closes {last:?}"));
                }
                page.text.push('\n');
                continue;
            }
            let (name, attributes) = element(inner)?;
            if !VOID.contains(&name.as_str()) {
                open.push(name.clone());
            }
            page.elements.push((name, attributes));
        }
        if open.is_empty() { Ok(page) } else { Err(format!("left open: {open:?}")) }
    }

    /// Values of an attribute over all elements of a name (`*`: of any).
    pub fn attributes<'a>(&'a self, element: &'a str, attribute: &'a str) -> impl Iterator<Item = &'a str> {
        let of = self.elements.iter().filter(move |(name, _)| element == "*" || name == element);
        of.flat_map(|(_, a)| a).filter(move |(k, _)| k == attribute).map(|(_, v)| v.as_str())
    }

    pub fn count(&self, element: &str) -> usize {
        self.elements.iter().filter(|(name, _)| name == element).count()
    }

    /// What a report must hold whatever it is about.
    pub fn check(&self) {
        let ids: Vec<&str> = self.attributes("*", "id").collect();
        let distinct: HashSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), distinct.len(), "ids are there once");
        for target in self.attributes("a", "href") {
            assert!(distinct.contains(target.strip_prefix('#').expect("links stay in the page")), "{target}");
        }
        for label in self.attributes("*", "aria-labelledby") {
            assert!(distinct.contains(label), "{label}");
        }
        assert!(self.attributes("html", "lang").eq(["en"]));
        assert_eq!([self.count("title").min(1), self.count("h1"), self.count("main")], [1, 1, 1]);
        let [scripts, links] = [self.count("script"), self.count("link")];
        assert_eq!([scripts, links], [0, 0], "nothing is loaded or run");
        assert!(self.attributes("img", "src").all(|s| s.starts_with("data:image/png;base64,")));
        assert_eq!(self.attributes("img", "alt").filter(|a| !a.is_empty()).count(), self.count("img"));
        assert_eq!(self.attributes("th", "scope").count(), self.count("th"), "headers have a scope");
        for (name, attributes) in self.elements.iter().filter(|(name, _)| name == "svg") {
            let has = |key: &str| attributes.iter().any(|(k, _)| k == key);
            assert!(
                has("aria-label") || has("aria-hidden") || has("x"),
                "{name} without a name: {attributes:?}"
            );
        }
        let numbers = ["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "d", "width", "height"];
        for value in numbers.into_iter().flat_map(|n| self.attributes("*", n)) {
            assert!(!value.contains("NaN") && !value.contains("inf"), "{value}");
        }
    }
}

/// Where a tag ends, quoted attributes left out of account.
fn end_of(tag: &str) -> Result<usize, String> {
    let mut quoted = false;
    for (i, c) in tag.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '>' if !quoted => return Ok(i),
            '<' if !quoted => return Err(format!("a bare < in {}", &tag[..i])),
            _ => {}
        }
    }
    Err("a tag without an end".into())
}

type Element = (String, Vec<(String, String)>);

fn element(inner: &str) -> Result<Element, String> {
    let (name, mut rest) = inner.split_once(' ').unwrap_or((inner, ""));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("an element named '{name}'"));
    }
    let mut attributes: Vec<(String, String)> = Vec::new();
    while !rest.is_empty() {
        let (key, value) = rest.split_once("=\"").ok_or_else(|| format!("unquoted attribute: {rest}"))?;
        let (value, after) = value.split_once('"').ok_or("a quote without an end")?;
        if attributes.iter().any(|(k, _)| k == key) {
            return Err(format!("{key} twice in {inner}"));
        }
        attributes.push((key.to_string(), unescape(value)?));
        rest = after.trim_start();
    }
    Ok((name.to_string(), attributes))
}

fn unescape(text: &str) -> Result<String, String> {
    let (mut all, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('&') {
        let (entity, after) = after.split_once(';').ok_or_else(|| format!("a bare & before {after:.20}"))?;
        let c = match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            other => return Err(format!("an entity &{other};")),
        };
        all += before;
        all.push(c);
        rest = after;
    }
    Ok(all + rest)
}

#[test]
fn malformed_pages_are_refused() {
    let read = |body: &str| Page::read(&format!("<!DOCTYPE html>{body}"));
    assert!(read("<p class=\"a\">1 &lt; 2<br></p>").is_ok_and(|p| p.text == "1 < 2\n"));
    for body in
        ["<p>", "<p></b>", "<p>a & b</p>", "<p a=1></p>", "<p>1 < 2</p>", "</p>", "<p x=\"1\" x=\"2\"></p>"]
    {
        assert!(read(body).is_err(), "{body}");
    }
}
