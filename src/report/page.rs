//! The frame of a report: one HTML file that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");

/// A part of the page.
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub body: Markup,
}

impl Section {
    pub fn new(id: &'static str, title: &'static str, body: Markup) -> Self {
        Section { id, title, body }
    }
}

/// A headline figure.
pub struct Tile {
    pub name: &'static str,
    pub value: String,
    pub detail: String,
}

/// The whole page; `head` stands under the title.
pub fn page(title: &str, head: Markup, tiles: &[Tile], sections: &[Section]) -> String {
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("tessera ", env!("CARGO_PKG_VERSION")));
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.brand { "tessera report" }
                    h1 { (title) }
                    (head)
                    @if !tiles.is_empty() {
                        dl.tiles {
                            @for tile in tiles {
                                div { dt { (tile.name) } dd { strong { (tile.value) } span { (tile.detail) } } }
                            }
                        }
                    }
                    nav aria-label="Contents" {
                        ul { @for s in sections { li { a href=(format!("#{}", s.id)) { (s.title) } } } }
                    }
                }
                main {
                    @for s in sections {
                        section id=(s.id) aria-labelledby=(format!("{}-title", s.id)) {
                            h2 id=(format!("{}-title", s.id)) { (s.title) }
                            (s.body)
                        }
                    }
                }
                footer { p { "Written by tessera " (env!("CARGO_PKG_VERSION")) ". This file needs no network." } }
            }
        }
    };
    body.into_string()
}
