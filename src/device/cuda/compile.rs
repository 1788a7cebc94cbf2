//! From CUDA C++ to code for a device: NVRTC, loaded at run time if it is there, and a cache on disk.
//!
//! A cached image is named by the hash of everything that it depends on (source, options, architecture,
//! version of NVRTC) and carries a checksum, so that neither an old nor a damaged file is ever used.

use std::ffi::{CString, c_char};
use std::path::PathBuf;
use std::sync::OnceLock;

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use super::launch::{Function, Source};
use crate::error::{Error, Result};

/// A file of `kernels/` with everything that it includes.
pub struct Kernels {
    pub name: &'static str,
    pub hash: u64,
    pub text: &'static str,
}

/// Every file of `kernels/`.
pub const FILES: &[Kernels] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// What the compiler makes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Image {
    /// Machine code for one architecture.
    Cubin,
    /// Portable code, for drivers that do not take this compiler's machine code.
    Ptx,
}

/// A source with definitions: what becomes one module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Unit {
    pub source: Source,
    pub defines: Vec<String>,
}

impl Unit {
    pub fn of(function: &Function) -> Self {
        Unit { source: function.source.clone(), defines: function.defines.clone() }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match &self.source {
            Source::File(name) if self.defines.is_empty() => format!("{name}.cu"),
            Source::File(name) => format!("{name}.cu with {}", self.defines.join(" ")),
            Source::Generated(_) => "pointwise.cu".to_string(),
        }
    }

    fn text(&self) -> Result<&str> {
        match &self.source {
            Source::Generated(text) => Ok(text),
            Source::File(name) => FILES
                .iter()
                .find(|f| f.name == *name)
                .map(|f| f.text)
                .ok_or_else(|| Error::Device(format!("there is no kernels/{name}.cu"))),
        }
    }

    /// Everything but definitions that the compiler is told.
    fn options(&self, architecture: u32, image: Image) -> Vec<String> {
        let kind = match image {
            Image::Cubin => "sm",
            Image::Ptx => "compute",
        };
        let mut options = vec![
            format!("--gpu-architecture={kind}_{architecture}"),
            "--std=c++17".to_string(),
            "-lineinfo".to_string(),
        ];
        if matches!(self.source, Source::Generated(_)) {
            // Elementwise results are those of the CPU; they wait for memory anyway.
            options.push("--fmad=false".to_string());
        }
        options.extend(self.defines.iter().map(|d| format!("-D{d}")));
        options
    }
}

/// Makes NVRTC ready, once a process; its version, or why it cannot be had.
pub fn version() -> Result<(i32, i32)> {
    static VERSION: OnceLock<Result<(i32, i32), String>> = OnceLock::new();
    VERSION.get_or_init(start).clone().map_err(Error::Device)
}

/// Every function that is called.
const FUNCTIONS: &[&str] = &[
    "nvrtcVersion",
    "nvrtcGetNumSupportedArchs",
    "nvrtcGetSupportedArchs",
    "nvrtcCreateProgram",
    "nvrtcCompileProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetProgramLogSize",
    "nvrtcGetProgramLog",
    "nvrtcGetPTXSize",
    "nvrtcGetPTX",
    "nvrtcGetCUBINSize",
    "nvrtcGetCUBIN",
];

fn start() -> Result<(i32, i32), String> {
    // SAFETY: NVIDIA's library, or what the user put in its place, may run its initialisers.
    if !unsafe { sys::is_culib_present() } {
        return Err(
            "CUDA cannot be had: no NVRTC (libnvrtc.so), which compiles the kernels, is installed".into()
        );
    }
    // SAFETY: the library is there, so this loads it and does not panic.
    let library = unsafe { sys::culib() };
    let missing = FUNCTIONS.iter().find(|name| {
        // SAFETY: the symbol is looked up and not called.
        unsafe { library.get::<*const std::ffi::c_void>(name.as_bytes()) }.is_err()
    });
    if let Some(name) = missing {
        return Err(format!("CUDA cannot be had: NVRTC is too old, its libnvrtc.so has no {name}"));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: places for one number each.
    let found = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    found.result().map_err(|e| format!("CUDA cannot be had: NVRTC does not start ({e})"))?;
    Ok((major, minor))
}

/// The newest architecture up to `wanted` that NVRTC knows, and whether it is `wanted` itself.
fn known_architecture(wanted: u32) -> Result<(u32, bool)> {
    version()?;
    let asked = |e: result::NvrtcError| Error::Device(format!("NVRTC cannot be asked: {e}"));
    let mut count = 0;
    // SAFETY: a place for one number.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result().map_err(asked)?;
    let mut known = vec![0; count.max(0) as usize];
    // SAFETY: room for as many numbers as were announced.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result().map_err(asked)?;
    match known.into_iter().map(|a| a as u32).filter(|&a| a <= wanted).max() {
        Some(best) => Ok((best, best == wanted)),
        None => Err(Error::Device(format!(
            "CUDA cannot be had: this NVRTC does not compile for compute capability {}.{}",
            wanted / 10,
            wanted % 10
        ))),
    }
}

/// A compiler for one architecture.
#[derive(Clone)]
pub struct Compiler {
    architecture: u32,
    /// Can there be machine code for the device itself?
    exact: bool,
    version: (i32, i32),
    cache: Option<PathBuf>,
}

impl Compiler {
    pub fn new(architecture: u32) -> Result<Self> {
        let version = version()?;
        let (architecture, exact) = known_architecture(architecture)?;
        Ok(Compiler { architecture, exact, version, cache: cache_folder() })
    }

    /// The kind of image to try first.
    pub fn preferred(&self) -> Image {
        if self.exact { Image::Cubin } else { Image::Ptx }
    }

    /// The image of a unit, from the cache if it is there.
    pub fn image(&self, unit: &Unit, image: Image) -> Result<Vec<u8>> {
        let text = unit.text()?;
        let options = unit.options(self.architecture, image);
        let file = self.cache.as_ref().map(|folder| folder.join(self.name(text, &options)));
        if let Some(known) = file.as_deref().and_then(read) {
            return Ok(known);
        }
        let made = compile(unit, text, &options, image)?;
        if let Some(file) = file {
            // A cache that cannot be written costs time and nothing else.
            let _ = write(&file, &made);
        }
        Ok(made)
    }

    fn name(&self, text: &str, options: &[String]) -> String {
        let mut hash = Sha256::new();
        for part in [text].into_iter().chain(options.iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let (major, minor) = self.version;
        hash.update(format!("{major}.{minor} {}", self.architecture));
        let hash: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
        format!("{hash}.sm_{}", self.architecture)
    }
}

/// `TESSERA_CACHE`, or the folder for this in the user's cache directory.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("TESSERA_CACHE").or_else(|| {
        let user = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(user.join("tessera"))
    })
}

/// A file's content without its checksum; `None` if it is not there, or is not what was written.
fn read(file: &std::path::Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(file).ok()?;
    let body = bytes.split_off(32.min(bytes.len()));
    (!body.is_empty() && bytes == Sha256::digest(&body).as_slice()).then_some(body)
}

/// Writes a file under a temporary name first, so that it appears whole or not at all.
fn write(file: &std::path::Path, body: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let folder = file.parent().unwrap_or(std::path::Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(&Sha256::digest(body))?;
    temporary.write_all(body)?;
    temporary.persist(file).map(drop).map_err(|e| e.error)
}

/// A program of NVRTC, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made in `compile`.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn compile(unit: &Unit, text: &str, options: &[String], image: Image) -> Result<Vec<u8>> {
    let failed = |e: result::NvrtcError, log: &str| {
        let log = log.trim();
        let gap = if log.is_empty() { "" } else { ":\n" };
        Error::Device(format!("NVRTC cannot compile {} ({e}){gap}{log}", unit.name()))
    };
    let c_text = |text: &str| {
        CString::new(text).map_err(|_| Error::Device(format!("{} holds a zero byte", unit.name())))
    };
    // Both texts must live as long as the program.
    let (source, name) = (c_text(text)?, c_text(&unit.name().replace(' ', "_"))?);
    let program = Program(result::create_program(&source, Some(&name)).map_err(|e| failed(e, ""))?);
    // SAFETY: the program was just made.
    if let Err(e) = unsafe { result::compile_program(program.0, options) } {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
        let log: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
        return Err(failed(e, &String::from_utf8_lossy(&log)));
    }
    let bytes = match image {
        // SAFETY: the program was compiled.
        Image::Ptx => unsafe { result::get_ptx(program.0) }.map(|v| v.iter().map(|&c| c as u8).collect()),
        Image::Cubin => cubin(&program),
    };
    bytes.map_err(|e| failed(e, ""))
}

/// `cudarc` has no safe getter for machine code.
fn cubin(program: &Program) -> Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0;
    // SAFETY: the program was compiled; a place for one number.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }.result()?;
    let mut bytes = vec![0_u8; size];
    // SAFETY: room for as many bytes as were announced.
    unsafe { sys::nvrtcGetCUBIN(program.0, bytes.as_mut_ptr().cast::<c_char>()) }.result()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_of_the_cache_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep").join("image");
        assert_eq!(read(&file), None);
        write(&file, b"machine code").unwrap();
        assert_eq!(read(&file).as_deref(), Some(&b"machine code"[..]));
        let whole = std::fs::read(&file).unwrap();
        for cut in [0, 10, 32, whole.len() - 1] {
            std::fs::write(&file, &whole[..cut]).unwrap();
            assert_eq!(read(&file), None, "{cut} bytes");
        }
        let mut changed = whole;
        changed[40] ^= 1;
        std::fs::write(&file, &changed).unwrap();
        assert_eq!(read(&file), None);
    }

    #[test]
    fn every_file_is_embedded_with_what_it_includes() {
        assert!(FILES.len() > 5);
        for file in FILES {
            assert!(!file.text.contains("#include \""), "{}", file.name);
            assert!(file.text.contains("typedef unsigned int u32"), "{}", file.name);
        }
    }
}
