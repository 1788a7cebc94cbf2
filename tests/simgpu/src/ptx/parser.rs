//! A recursive-descent parser for the PTX that NVRTC emits. It resolves nothing: names stay names.

use super::ast::*;
use super::lexer::{Kind, Token, tokens};
use crate::types::Type;

/// Parses a module. The error names the PTX line.
pub fn parse(source: &str) -> Result<Module, String> {
    let tokens = tokens(source)?;
    let mut parser = Parser { tokens: &tokens, at: 0, place: Place::default(), module: Module::default() };
    while parser.at < parser.tokens.len() {
        parser.item()?;
    }
    if parser.module.version == 0 || parser.module.target == 0 {
        return Err("no .version and .target: this is not a PTX module".into());
    }
    Ok(parser.module)
}

struct Parser<'t, 's> {
    tokens: &'t [Token<'s>],
    at: usize,
    /// The source line that the last `.loc` named.
    place: Place,
    module: Module,
}

type Parsed<T> = Result<T, String>;

impl<'s> Parser<'_, 's> {
    fn peek(&self) -> Option<Token<'s>> {
        self.tokens.get(self.at).copied()
    }

    fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(0, |token| token.line)
    }

    fn error<T>(&self, expected: &str) -> Parsed<T> {
        let found = self.peek().map_or("the end of the text", |token| token.text);
        Err(format!("PTX line {}: expected {expected}, found {found}", self.line()))
    }

    fn next(&mut self) -> Parsed<Token<'s>> {
        match self.peek() {
            Some(token) => {
                self.at += 1;
                Ok(token)
            }
            None => self.error("more text"),
        }
    }

    fn is(&self, text: &str) -> bool {
        self.peek().is_some_and(|token| token.kind != Kind::Text && token.text == text)
    }

    /// Takes the token if it is this one.
    fn eat(&mut self, text: &str) -> bool {
        let found = self.is(text);
        self.at += found as usize;
        found
    }

    fn expect(&mut self, text: &str) -> Parsed<()> {
        if self.eat(text) { Ok(()) } else { self.error(text) }
    }

    fn word(&mut self) -> Parsed<&'s str> {
        match self.peek() {
            Some(token) if token.kind == Kind::Word => {
                self.at += 1;
                Ok(token.text)
            }
            _ => self.error("a name"),
        }
    }

    fn count(&mut self) -> Parsed<usize> {
        match self.peek().map(|token| token.text.parse::<usize>()) {
            Some(Ok(count)) => {
                self.at += 1;
                Ok(count)
            }
            _ => self.error("a count"),
        }
    }

    fn skip_line(&mut self) {
        let line = self.line();
        while self.peek().is_some_and(|token| token.line == line) {
            self.at += 1;
        }
    }

    fn skip_past(&mut self, text: &str) -> Parsed<()> {
        while !self.eat(text) {
            self.next()?;
        }
        Ok(())
    }

    // ---- the module ----

    fn item(&mut self) -> Parsed<()> {
        let start = self.at;
        let (mut is_extern, mut space) = (false, None);
        loop {
            match self.word()? {
                ".version" => {
                    let text = self.word()?;
                    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
                    match (major.parse::<u32>(), minor.parse::<u32>()) {
                        (Ok(major), Ok(minor)) if major < 1000 && minor < 10 => {
                            self.module.version = major * 10 + minor;
                            return Ok(());
                        }
                        _ => return self.error("a version"),
                    }
                }
                ".target" => {
                    let name = self.word()?;
                    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
                    self.module.target =
                        digits.parse().or_else(|_| self.error("an architecture such as sm_80"))?;
                    self.skip_line();
                    return Ok(());
                }
                ".address_size" => {
                    if self.word()? != "64" {
                        return self.error("addresses of 64 bits");
                    }
                    return Ok(());
                }
                ".file" => return self.file(),
                ".section" => return self.section(),
                ".loc" => return self.location(),
                ".pragma" => return self.skip_past(";"),
                ".visible" | ".weak" | ".common" => {}
                ".extern" => is_extern = true,
                ".global" => space = Some(Space::Global),
                ".const" => space = Some(Space::Const),
                ".shared" => space = Some(Space::Shared),
                ".entry" => return self.function(true),
                ".func" => return self.function(false),
                _ => {
                    self.at -= 1;
                    let Some(space) = space else {
                        self.at = start;
                        return self.error("a directive of a module");
                    };
                    let mut variables = self.variables(space, is_extern)?;
                    self.expect(";")?;
                    self.module.variables.append(&mut variables);
                    return Ok(());
                }
            }
        }
    }

    /// `.file 1 "name"` with an optional time stamp and size.
    fn file(&mut self) -> Parsed<()> {
        let number = self.count()? as u32;
        let name = self.next()?;
        self.module.files.insert(number, name.text.to_string());
        while self.eat(",") {
            self.word()?;
        }
        Ok(())
    }

    /// `.loc 1 20 5` and, for inlined functions, more on the same line.
    fn location(&mut self) -> Parsed<()> {
        self.at -= 1;
        let line = self.line();
        self.at += 1;
        let file = self.count()? as u32;
        let source_line = self.count()? as u32;
        self.place = Place { file, line: source_line };
        while self.peek().is_some_and(|token| token.line == line) {
            self.at += 1;
        }
        Ok(())
    }

    /// A section of debug information, skipped.
    fn section(&mut self) -> Parsed<()> {
        self.skip_past("{")?;
        let mut depth = 1;
        while depth > 0 {
            match self.next()?.text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// `.align 4 .b8 name[24] = {...}`, or several names of one type.
    fn variables(&mut self, space: Space, is_extern: bool) -> Parsed<Vec<Variable>> {
        let (mut align, mut ty, mut vector) = (None, None, 1);
        while let Some(directive) = self.peek().and_then(|token| token.text.strip_prefix('.')) {
            self.at += 1;
            match directive {
                "align" => align = Some(self.count()?),
                "v2" => vector = 2,
                "v4" => vector = 4,
                "ptr" | "global" | "const" | "shared" | "local" | "param" | "managed" => {}
                name => match Type::parse(name) {
                    Some(found) => ty = Some(found),
                    None => {
                        self.at -= 1;
                        return self.error("a type");
                    }
                },
            }
        }
        let Some(ty) = ty else { return self.error("a type") };
        let align = align.unwrap_or(ty.size() * vector);
        if !align.is_power_of_two() || align > 1 << 20 {
            return self.error("an alignment that is a power of two");
        }
        let mut variables = Vec::new();
        loop {
            let name = self.word()?.to_string();
            let mut elements = Some(vector);
            let mut open = false;
            while self.eat("[") {
                if self.eat("]") {
                    open = true;
                } else {
                    let length = self.count()?;
                    elements = elements.and_then(|elements| elements.checked_mul(length));
                    self.expect("]")?;
                }
            }
            let mut initial = Vec::new();
            if self.eat("=") {
                self.initialiser(&mut initial)?;
            }
            if open {
                elements = Some(initial.len());
            }
            let Some(size) = elements.and_then(|n| n.checked_mul(ty.size())).filter(|&n| n < 1 << 40) else {
                return self.error("an array that fits into memory");
            };
            variables.push(Variable { space, ty, name, align, size, is_extern, initial });
            if !self.is(",") || space == Space::Param {
                return Ok(variables);
            }
            self.at += 1;
        }
    }

    fn initialiser(&mut self, into: &mut Vec<Initial>) -> Parsed<()> {
        let mut depth = 0;
        loop {
            if self.eat("{") {
                depth += 1;
                continue;
            }
            if self.eat("}") {
                depth -= 1;
            } else if !self.eat(",") {
                into.push(self.initial_element()?);
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn initial_element(&mut self) -> Parsed<Initial> {
        match self.operand()? {
            Operand::Number(number) => Ok(Initial::Number(number)),
            Operand::Name(name, _) if name == "generic" && self.eat("(") => {
                let inner = self.word()?.to_string();
                self.expect(")")?;
                let offset = if self.eat("+") { self.offset()? } else { 0 };
                Ok(Initial::Address(inner, offset))
            }
            Operand::Name(name, offset) => Ok(Initial::Address(name, offset)),
            _ => self.error("a number or an address"),
        }
    }

    fn params(&mut self) -> Parsed<Vec<Variable>> {
        let mut params = Vec::new();
        self.expect("(")?;
        while !self.eat(")") {
            if !params.is_empty() {
                self.expect(",")?;
            }
            if !self.eat(".param") && !self.eat(".reg") {
                return self.error(".param");
            }
            params.append(&mut self.variables(Space::Param, false)?);
        }
        Ok(params)
    }

    fn function(&mut self, is_entry: bool) -> Parsed<()> {
        let results = if self.is("(") { self.params()? } else { Vec::new() };
        let name = self.word()?.to_string();
        let params = if self.is("(") { self.params()? } else { Vec::new() };
        let mut max_threads = 1024;
        self.place = Place::default();
        let body = loop {
            match self.next()?.text {
                ";" => break None,
                "{" => break Some(self.body()?),
                directive @ (".maxntid" | ".reqntid") => {
                    let mut product = 1usize;
                    loop {
                        product = product.saturating_mul(self.count()?);
                        if !self.eat(",") {
                            break;
                        }
                    }
                    let _ = directive;
                    max_threads = product.min(1024) as u32;
                }
                ".noreturn" => {}
                ".minnctapersm" | ".maxnreg" | ".maxnctapersm" => {
                    self.count()?;
                }
                ".pragma" => self.skip_past(";")?,
                _ => {
                    self.at -= 1;
                    return self.error("the body of a function");
                }
            }
        };
        self.module.functions.push(Function { name, is_entry, results, params, body, max_threads });
        Ok(())
    }

    // ---- statements ----

    fn body(&mut self) -> Parsed<Vec<Statement>> {
        let mut statements = Vec::new();
        let mut depth = 0;
        loop {
            let Some(token) = self.peek() else { return self.error("}") };
            match token.text {
                "{" => {
                    self.at += 1;
                    depth += 1;
                    statements.push(Statement::Open);
                }
                "}" => {
                    self.at += 1;
                    if depth == 0 {
                        return Ok(statements);
                    }
                    depth -= 1;
                    statements.push(Statement::Close);
                }
                ";" => self.at += 1,
                _ => self.statement(&mut statements)?,
            }
        }
    }

    fn statement(&mut self, into: &mut Vec<Statement>) -> Parsed<()> {
        let guard = if self.eat("@") {
            let negated = self.eat("!");
            Some((self.word()?.to_string(), negated))
        } else {
            None
        };
        let ptx_line = self.line();
        let word = self.word()?;
        if guard.is_none() {
            if self.eat(":") {
                if self.eat(".branchtargets") {
                    let mut targets = vec![self.word()?.to_string()];
                    while self.eat(",") {
                        targets.push(self.word()?.to_string());
                    }
                    into.push(Statement::Targets(word.to_string(), targets));
                    return self.expect(";");
                }
                into.push(Statement::Label(word.to_string()));
                return Ok(());
            }
            if word.starts_with('.') {
                return self.directive(word, into);
            }
        }
        if !word.starts_with(|first: char| first.is_ascii_lowercase()) {
            self.at -= 1;
            return self.error("an instruction");
        }
        let mut operands = Vec::new();
        while !self.eat(";") {
            if !operands.is_empty() {
                self.expect(",")?;
            }
            operands.push(self.operand()?);
        }
        let place = self.place;
        let opcode = word.to_string();
        into.push(Statement::Instruction(Instruction { guard, opcode, operands, ptx_line, place }));
        Ok(())
    }

    fn directive(&mut self, word: &str, into: &mut Vec<Statement>) -> Parsed<()> {
        let space = match word {
            ".loc" => return self.location(),
            ".file" => return self.file(),
            ".section" => return self.section(),
            ".pragma" => return self.skip_past(";"),
            ".reg" => return self.registers(into),
            ".shared" => Space::Shared,
            ".local" => Space::Local,
            ".param" => Space::Param,
            ".global" => Space::Global,
            ".const" => Space::Const,
            _ => {
                self.at -= 1;
                return self.error("a directive of a function");
            }
        };
        for variable in self.variables(space, false)? {
            into.push(Statement::Variable(variable));
        }
        self.expect(";")
    }

    fn registers(&mut self, into: &mut Vec<Statement>) -> Parsed<()> {
        let ty = match self.word()?.strip_prefix('.').and_then(Type::parse) {
            Some(ty) => ty,
            None => {
                self.at -= 1;
                return self.error("the type of a register");
            }
        };
        loop {
            let name = self.word()?.to_string();
            let count = if self.eat("<") {
                let count = self.count()?;
                self.expect(">")?;
                if count > 1 << 20 {
                    return self.error("fewer registers");
                }
                Some(count as u32)
            } else {
                None
            };
            into.push(Statement::Register { ty, name, count });
            if !self.eat(",") {
                return self.expect(";");
            }
        }
    }

    // ---- operands ----

    /// A comma-separated list up to the closing mark, which is taken.
    fn list(&mut self, close: &str) -> Parsed<Vec<Operand>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.simple()?);
        }
        Ok(items)
    }

    fn operand(&mut self) -> Parsed<Operand> {
        if self.eat("{") {
            return Ok(Operand::Vector(self.list("}")?));
        }
        if self.eat("(") {
            return Ok(Operand::Group(self.list(")")?));
        }
        if self.eat("[") {
            let base = self.simple()?;
            self.expect("]")?;
            return Ok(match base {
                Operand::Name(name, offset) => Operand::Address(Box::new(Operand::Name(name, 0)), offset),
                base => Operand::Address(Box::new(base), 0),
            });
        }
        if self.eat("!") {
            return Ok(Operand::Not(self.word()?.to_string()));
        }
        self.simple()
    }

    /// A number, or a name with an optional offset or partner.
    fn simple(&mut self) -> Parsed<Operand> {
        if self.eat("-") {
            let number = match self.number()? {
                Number::Integer(value) => Number::Integer(value.wrapping_neg()),
                Number::F32(value) => Number::F32(-value),
                Number::F64(value) => Number::F64(-value),
            };
            return Ok(Operand::Number(number));
        }
        match self.peek() {
            Some(token) if token.text.starts_with(|first: char| first.is_ascii_digit()) => {
                Ok(Operand::Number(self.number()?))
            }
            _ => {
                let name = self.word()?.to_string();
                if self.eat("|") {
                    return Ok(Operand::Pair(name, self.word()?.to_string()));
                }
                let offset = if self.eat("+") || self.is("-") { self.offset()? } else { 0 };
                Ok(Operand::Name(name, offset))
            }
        }
    }

    fn offset(&mut self) -> Parsed<i64> {
        let negative = self.eat("-");
        match self.number()? {
            Number::Integer(value) if negative => Ok((value as i64).wrapping_neg()),
            Number::Integer(value) => Ok(value as i64),
            _ => self.error("a whole offset"),
        }
    }

    fn number(&mut self) -> Parsed<Number> {
        let text = self.word()?;
        match parse_number(text) {
            Some(number) => Ok(number),
            None => {
                self.at -= 1;
                self.error("a number")
            }
        }
    }
}

/// `12`, `0x1fU`, `0f3F800000` (bits of an f32), `0d...` (bits of an f64), `1.5`.
fn parse_number(text: &str) -> Option<Number> {
    let lower = text.to_ascii_lowercase();
    if let Some(bits) = lower.strip_prefix("0f") {
        return u32::from_str_radix(bits, 16).ok().map(|bits| Number::F32(f32::from_bits(bits)));
    }
    if let Some(bits) = lower.strip_prefix("0d") {
        return u64::from_str_radix(bits, 16).ok().map(|bits| Number::F64(f64::from_bits(bits)));
    }
    let digits = lower.strip_suffix('u').unwrap_or(&lower);
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x', ..] => (&digits[2..], 16),
        [b'0', b'b', ..] => (&digits[2..], 2),
        [b'0', _, ..] if !digits.contains('.') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    match u64::from_str_radix(digits, radix) {
        Ok(value) => Some(Number::Integer(value)),
        Err(_) if digits.contains('.') && digits.starts_with(|first: char| first.is_ascii_digit()) => {
            digits.parse().ok().map(Number::F64)
        }
        Err(_) => None,
    }
}
