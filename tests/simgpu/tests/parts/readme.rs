//! The lists in the README are those of the code.

use cuda::{driver, isa};

#[test]
fn lists_are_up_to_date() {
    let mut names: Vec<&str> = driver::all_functions();
    names.sort();
    let readme = include_str!("../../README.md");
    let section = |start: &str| {
        let (_, rest) =
            readme.split_once(&format!("<!-- {start} -->\n```text\n")).expect("the section is there");
        rest.split_once("```").expect("it ends").0
    };
    let hint = "print them with `cargo run --release --example lower`";
    let found: Vec<&str> = section("functions").split_whitespace().collect();
    assert_eq!(found, names, "{hint}");
    assert_eq!(section("opcodes"), isa::list(), "{hint}");
}
