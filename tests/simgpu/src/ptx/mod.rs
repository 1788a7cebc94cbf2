//! PTX text → `ast::Module`.

pub mod ast;
mod lexer;
mod parser;

pub use parser::parse;
