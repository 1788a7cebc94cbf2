//! The parser and the lowering give errors for texts that are no PTX, and never panic.

use cuda::lower;
use cuda::ptx;

const MODULE: &str = r#"
.version 8.0
.target sm_80
.address_size 64
.global .align 4 .u32 v[3] = {1, 2, 3};
.visible .entry k(.param .u64 k_0, .param .align 4 .b8 k_1[12])
.maxntid 64, 1, 1
{
    .reg .pred %p<2>; .reg .b32 %r<9>; .reg .f32 %f<4>; .reg .b64 %rd<5>;
    .shared .align 4 .b8 s[64];
    ld.param.u64 %rd1, [k_0];
    mov.u32 %r1, %tid.x;
    setp.gt.u32 %p1, %r1, 7;
    @%p1 bra $L;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.v2.f32 {%f1, %f2}, [%rd3+8];
    fma.rn.f32 %f3, %f1, 0f3F800000, %f2;
    st.global.f32 [%rd3], %f3;
$L: ret;
}
"#;

/// Parses and lowers, whatever comes out.
fn try_all(text: &str) {
    let Ok(module) = ptx::parse(text) else { return };
    let symbols = lower::Symbols::new();
    for function in module.functions.iter().filter(|function| function.is_entry && function.body.is_some()) {
        let _ = lower::kernel(&module, function, &symbols);
    }
}

#[test]
fn the_module_itself_is_fine() {
    let module = ptx::parse(MODULE).unwrap();
    assert_eq!(module.functions.len(), 1);
    lower::kernel(&module, &module.functions[0], &lower::Symbols::new()).unwrap();
}

#[test]
fn cut_off_texts() {
    for end in 0..MODULE.len() {
        try_all(&MODULE[..end]);
        try_all(&MODULE[end..]);
    }
}

#[test]
fn words_left_out_doubled_and_exchanged() {
    let words: Vec<&str> = MODULE.split_inclusive([' ', '\n', ',', ';']).collect();
    for at in 0..words.len() {
        let (before, after) = (words[..at].concat(), words[at + 1..].concat());
        try_all(&format!("{before}{after}"));
        try_all(&format!("{before}{}{}{after}", words[at], words[at]));
        for other in [(at * 7 + 3) % words.len(), (at * 13 + 5) % words.len()] {
            try_all(&format!("{before}{}{after}", words[other]));
        }
    }
}

#[test]
fn bytes_at_random() {
    let mut state = 88172645463325252u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..3000 {
        let mut bytes = MODULE.as_bytes().to_vec();
        for _ in 0..1 + next() % 6 {
            let at = next() as usize % bytes.len();
            bytes[at] = next() as u8;
        }
        try_all(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn numbers_of_absurd_size() {
    for number in
        ["0", "1", "99999999999999999999", "0xffffffffffffffff", "-1", "0f3F80000", "0fZZ", "4294967296"]
    {
        try_all(&MODULE.replace("[64]", &format!("[{number}]")));
        try_all(&MODULE.replace("%r<9>", &format!("%r<{number}>")));
        try_all(&MODULE.replace(".align 4", &format!(".align {number}")));
        try_all(&MODULE.replace("+8]", &format!("+{number}]")));
        try_all(&MODULE.replace("64, 1, 1", &format!("{number}, {number}, {number}")));
        try_all(&MODULE.replace("k_1[12]", &format!("k_1[{number}]")));
    }
}
