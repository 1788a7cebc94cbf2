//! What ptxas makes of a module: registers, memory, spills, and the instructions themselves.

use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::toolkit::{tool, toolkit};

pub const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_100"];

/// A kernel on one architecture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    pub entry: String,
    pub architecture: usize,
    pub registers: u32,
    /// Shared memory of fixed size, in bytes.
    pub shared: u32,
    /// Bytes of local memory, which registers were spilled to or arrays were put into.
    pub local: u32,
    /// Instructions for tensor cores.
    pub tensor: usize,
    /// Threads that its launch bounds allow, 0 without bounds.
    pub threads: u32,
}

/// Every kernel of a module on every architecture. Remembered between runs by a hash of the PTX and of the
/// versions of the tools.
pub fn compiled(ptx: &str, folder: &Path) -> Vec<Compiled> {
    let versions = std::fs::read_to_string(toolkit().unwrap().join("VERSIONS")).unwrap_or_default();
    let hash = Sha256::new().chain_update(versions).chain_update(ptx).finalize();
    let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    let memory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-2");
    std::fs::create_dir_all(&memory).unwrap();
    let known = memory.join(&hash);
    if let Some(all) = std::fs::read_to_string(&known).ok().and_then(|text| read(&text)) {
        return all;
    }
    let source = folder.join(format!("{hash}.ptx"));
    std::fs::write(&source, ptx).unwrap();
    let all: Vec<Compiled> = (0..ARCHITECTURES.len())
        .flat_map(|architecture| {
            let name = ARCHITECTURES[architecture];
            let binary = folder.join(format!("{hash}.{name}"));
            let (source, to) = (source.to_str().unwrap(), binary.to_str().unwrap());
            let printed = tool("ptxas", &["-v", "--gpu-name", name, "-o", to, source]);
            let code = std::fs::read(&binary).unwrap();
            std::fs::remove_file(&binary).unwrap();
            kernels(ptx, &printed, &code, architecture)
        })
        .collect();
    let new = folder.join(format!("{hash}.new"));
    std::fs::write(&new, write(&all)).unwrap();
    // Another file system would not take it by its name; then it is compiled again.
    let _ = std::fs::rename(&new, &known);
    all
}

fn write(all: &[Compiled]) -> String {
    let mut text = String::new();
    for Compiled { entry, architecture, registers, shared, local, tensor, threads } in all {
        writeln!(text, "{entry} {architecture} {registers} {shared} {local} {tensor} {threads}").unwrap();
    }
    text + "end\n"
}

fn read(text: &str) -> Option<Vec<Compiled>> {
    let line = |line: &str| {
        let (entry, rest) = line.split_once(' ')?;
        let numbers: Vec<u32> = rest.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let &[architecture, registers, shared, local, tensor, threads] = &numbers[..] else { return None };
        let (entry, architecture, tensor) = (entry.to_string(), architecture as usize, tensor as usize);
        Some(Compiled { entry, architecture, registers, shared, local, tensor, threads })
    };
    text.strip_suffix("end\n")?.lines().map(line).collect()
}

/// The number in front of `what`.
fn number(text: &str, what: &str) -> Option<u32> {
    text[..text.find(what)?].split_whitespace().next_back()?.parse().ok()
}

/// Kernels by what `ptxas -v` says of each, in paragraphs that begin with its name.
fn kernels(ptx: &str, printed: &str, code: &[u8], architecture: usize) -> Vec<Compiled> {
    let paragraphs = printed.split("Compiling entry function '").skip(1);
    let kernel = |text: &str| {
        let entry = text.split('\'').next().unwrap().to_string();
        let figure =
            |what: &str| number(text, what).unwrap_or_else(|| panic!("no '{what}' for {entry} in {text}"));
        let local = [" bytes stack frame", " bytes spill stores", " bytes spill loads"].map(figure);
        Compiled {
            registers: figure(" registers"),
            shared: number(text, " bytes smem").unwrap_or(0),
            local: local.into_iter().max().unwrap_or(0),
            tensor: tensor_instructions(code, &entry),
            threads: bound(ptx, &entry),
            architecture,
            entry,
        }
    };
    paragraphs.map(kernel).collect()
}

/// `.maxntid` of an entry of a PTX text, 0 if it has none.
fn bound(ptx: &str, entry: &str) -> u32 {
    let from = ptx.find(&format!(".entry {entry}(")).unwrap_or_else(|| panic!("no entry {entry}"));
    let head = &ptx[from..];
    let head = &head[..head.find('{').unwrap_or(head.len())];
    let bound = head.split(".maxntid").nth(1).and_then(|rest| rest.split([',', '\n']).next());
    bound.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// HMMA instructions of a kernel in an ELF file of machine code: its section `.text.NAME` has 16 bytes an
/// instruction, the lowest 12 bits of which are the opcode.
fn tensor_instructions(elf: &[u8], entry: &str) -> usize {
    const HMMA: u16 = 0x23c;
    let word = |at: usize, bytes: usize| {
        elf[at..at + bytes].iter().rev().fold(0_usize, |sum, &b| sum << 8 | usize::from(b))
    };
    let (table, size, count, names) = (word(0x28, 8), word(0x3a, 2), word(0x3c, 2), word(0x3e, 2));
    let field = |section: usize, at: usize, bytes: usize| word(table + section * size + at, bytes);
    let names = field(names, 0x18, 8);
    let wanted = format!(".text.{entry}\0");
    let section = (0..count).find(|&s| elf[names + field(s, 0, 4)..].starts_with(wanted.as_bytes()));
    let section = section.unwrap_or_else(|| panic!("no machine code of {entry}"));
    let (from, bytes) = (field(section, 0x18, 8), field(section, 0x20, 8));
    let code = elf[from..from + bytes].chunks_exact(16);
    code.filter(|i| u16::from_le_bytes([i[0], i[1]]) & 0xfff == HMMA).count()
}

#[test]
fn instructions_are_counted_as_the_disassembler_does() {
    if toolkit().is_none() {
        return;
    }
    let entry = |name: &str, count: usize| {
        let product = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1, %f2, %f3, %f4}, \
                       {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};\n";
        format!(
            ".visible .entry {name}(.param .u64 p) .maxntid 64, 1, 1 {{\n.reg .f32 %f<5>; .reg .b32 %r<7>; \
             .reg .b64 %d<2>;\nld.param.u64 %d1, [p];\nld.global.v4.f32 {{%f1, %f2, %f3, %f4}}, [%d1];\n\
             ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%d1+16];\nld.global.v2.u32 {{%r5, %r6}}, [%d1+32];\n{}\
             st.global.v4.f32 [%d1], {{%f1, %f2, %f3, %f4}};\nret;\n}}\n",
            product.repeat(count)
        )
    };
    let ptx =
        format!(".version 8.8\n.target sm_80\n.address_size 64\n{}{}", entry("one", 3), entry("two", 0));
    let folder = tempfile::tempdir().unwrap();
    for (architecture, name) in ARCHITECTURES.iter().enumerate() {
        let [source, binary] = ["kernel.ptx", "kernel.cubin"].map(|f| folder.path().join(f));
        std::fs::write(&source, &ptx).unwrap();
        let (source, to) = (source.to_str().unwrap(), binary.to_str().unwrap());
        let printed = tool("ptxas", &["-v", "--gpu-name", name, "-o", to, source]);
        let found = kernels(&ptx, &printed, &std::fs::read(&binary).unwrap(), architecture);
        let told = tool("nvdisasm", &["-c", to]).matches("HMMA").count();
        let tensor = |entry: &str| found.iter().find(|k| k.entry == entry).map(|k| (k.tensor, k.threads));
        assert_eq!((tensor("one"), tensor("two")), (Some((told, 64)), Some((0, 64))), "{name}");
        assert!(told >= 3, "{name}");
        assert_eq!(read(&write(&found)).as_ref(), Some(&found));
    }
}
