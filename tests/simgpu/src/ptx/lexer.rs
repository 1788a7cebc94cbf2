//! PTX text as tokens. Words keep their dots (`ld.global.nc.v4.f32`, `%tid.x`), so an opcode is one token.

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Word,
    Text,
    Mark,
}

#[derive(Clone, Copy, Debug)]
pub struct Token<'s> {
    pub kind: Kind,
    /// The word, the mark, or what stands between the quotation marks.
    pub text: &'s str,
    pub line: u32,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// Cuts a module into tokens, without comments. The error names the line.
pub fn tokens(source: &str) -> Result<Vec<Token<'_>>, String> {
    let bytes = source.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut found = Vec::new();
    let mut line = 1;
    let mut i = 0;
    while i < bytes.len() {
        let start = i;
        match bytes[i] {
            b'\n' => {
                line += 1;
                i += 1;
            }
            byte if byte.is_ascii_whitespace() || byte == 0 => i += 1,
            b'/' if at(i + 1) == b'/' => {
                while i < bytes.len() && bytes[i] != b'\n' {
                    i += 1;
                }
            }
            b'/' if at(i + 1) == b'*' => {
                i += 2;
                while i < bytes.len() && !(bytes[i] == b'*' && at(i + 1) == b'/') {
                    line += (bytes[i] == b'\n') as u32;
                    i += 1;
                }
                i += 2;
            }
            b'"' => {
                i += 1;
                while i < bytes.len() && bytes[i] != b'"' {
                    line += (bytes[i] == b'\n') as u32;
                    i += 1;
                }
                if i >= bytes.len() {
                    return Err(format!("PTX line {line}: a quotation mark is not closed"));
                }
                found.push(Token { kind: Kind::Text, text: &source[start + 1..i], line });
                i += 1;
            }
            byte if is_word(byte) => {
                loop {
                    if is_word(at(i)) {
                        i += 1;
                    } else if at(i) == b':' && at(i + 1) == b':' && is_word(at(i + 2)) {
                        i += 2;
                    } else {
                        break;
                    }
                }
                found.push(Token { kind: Kind::Word, text: &source[start..i], line });
            }
            b'{' | b'}' | b'[' | b']' | b'(' | b')' | b'<' | b'>' | b',' | b';' | b':' | b'=' | b'+'
            | b'-' | b'|' | b'!' | b'@' => {
                i += 1;
                found.push(Token { kind: Kind::Mark, text: &source[start..i], line });
            }
            byte => return Err(format!("PTX line {line}: a byte {byte:#04x} that no token starts with")),
        }
    }
    Ok(found)
}
