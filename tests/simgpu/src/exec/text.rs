//! `printf` and `assert` of a kernel.

use super::access::{WINDOW_BITS, each_lane};
use super::instruction::{Instruction, NONE, WIDE};
use super::memory::find_in;
use super::warp::Warp;
use crate::status::Status;

/// The bytes up to a zero at a global address.
fn text_at(w: &Warp, address: u64) -> String {
    let Some(allocation) = find_in(&w.launch().snapshot, address) else { return "(invalid address)".into() };
    let left = allocation.end().saturating_sub(address) as usize;
    // SAFETY: the snapshot keeps the allocation, and `left` bytes of it follow the address.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, left) };
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(left);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `__assertfail(message, file, line, function, size)`; `list` holds the five.
pub fn assert_fail(w: &mut Warp, i: &Instruction, m: u32) {
    let lane = m.trailing_zeros() as usize;
    let text = |slot: u32| text_at(w, w.get::<u64>(slot & !WIDE)[lane]);
    let line = w.get::<u32>(i.list[2] & !WIDE)[lane];
    let message = format!(
        "assertion `{}` failed at {}:{line} in {}",
        text(i.list[0]),
        text(i.list[1]),
        text(i.list[3])
    );
    w.fault(lane as u32, Status::Assert, message);
}

/// `vprintf(format, arguments)`: `list` holds the two; the lanes print one after another.
pub fn print(w: &mut Warp, i: &Instruction, m: u32) {
    let (formats, arguments) = (*w.get::<u64>(i.list[0] & !WIDE), *w.get::<u64>(i.list[1] & !WIDE));
    for k in each_lane(m) {
        let frame = w.launch().program.local;
        let start = (arguments[k] & !WINDOW_BITS) as usize;
        let bytes = w.local.get(k * frame + start.min(frame)..(k + 1) * frame).unwrap_or(&[]).to_vec();
        let format = text_at(w, formats[k]);
        print!("{}", render(&format, &bytes, |address| text_at(w, address)));
    }
    if i.dst != NONE {
        w.set(i.dst, &[0u32; 32], m);
    }
}

/// Fills a format with arguments that lie one after another, each at a multiple of its size.
fn render(format: &str, arguments: &[u8], text: impl Fn(u64) -> String) -> String {
    let mut out = String::new();
    let mut at = 0usize;
    let mut take = |bytes: usize| {
        at = at.next_multiple_of(bytes);
        let mut value = [0; 8];
        if let Some(found) = arguments.get(at..at + bytes) {
            value[..bytes].copy_from_slice(found);
        }
        at += bytes;
        u64::from_le_bytes(value)
    };
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut spec, mut is_long) = (String::new(), false);
        let conversion = loop {
            match chars.next() {
                Some('l' | 'z' | 'j' | 't') => is_long = true,
                Some('h') => {}
                Some(c) if c.is_ascii_alphabetic() || c == '%' => break c,
                Some(c) => spec.push(c),
                None => break '%',
            }
        };
        let signed = |value: u64| if is_long { value as i64 } else { value as i32 as i64 };
        let size = if is_long { 8 } else { 4 };
        let (width, precision) = spec.split_once('.').unwrap_or((&spec, ""));
        let precision: usize = precision.parse().unwrap_or(6);
        let body = match conversion {
            '%' => "%".into(),
            'd' | 'i' => signed(take(size)).to_string(),
            'u' => take(size).to_string(),
            'x' => format!("{:x}", take(size)),
            'X' => format!("{:X}", take(size)),
            'o' => format!("{:o}", take(size)),
            'c' => ((take(4) as u8) as char).to_string(),
            's' => text(take(8)),
            'p' => format!("{:#x}", take(8)),
            'e' | 'E' => format!("{:.*e}", precision, f64::from_bits(take(8))),
            'g' | 'G' => f64::from_bits(take(8)).to_string(),
            _ => format!("{:.*}", precision, f64::from_bits(take(8))),
        };
        let flags: String = width.chars().take_while(|c| "-+ 0#".contains(*c)).collect();
        let width: usize = width[flags.len()..].parse().unwrap_or(0);
        let body = if flags.contains('+') && !body.starts_with('-') { format!("+{body}") } else { body };
        if flags.contains('-') {
            out += &format!("{body:<width$}");
        } else if flags.contains('0') {
            let (sign, digits) = body.split_at(body.starts_with(['-', '+']) as usize);
            out += &format!("{sign}{digits:0>rest$}", rest = width.saturating_sub(sign.len()));
        } else {
            out += &format!("{body:>width$}");
        }
    }
    out
}
