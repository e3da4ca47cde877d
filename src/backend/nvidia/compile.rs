//! CUDA C++ → code for one device, through the run-time compiler (NVRTC).
//!
//! Must not know what the source computes.

// Foreign calls; the library was found before any of them, and the program is destroyed by its owner.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Instant;

use cudarc::nvrtc::sys::{self, nvrtcResult};

use crate::backend::nvidia::cuda::{CudaError, Result};
use crate::hardware::cuda::{self, Library};

/// Compiled code and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// A cubin.
    pub image: Vec<u8>,
    /// Compile time, seconds.
    pub seconds: f64,
    /// Warnings, usually empty.
    pub log: String,
}

/// A program, destroyed on drop.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `nvrtcCreateProgram` and destroyed once.
        let _ = unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
    }
}

impl Program {
    fn log(&self) -> String {
        let mut length = 0;
        // SAFETY: the log is written into a buffer of the length that the library asked for, its final zero included.
        unsafe {
            let _ = sys::nvrtcGetProgramLogSize(self.0, &raw mut length);
            let mut log = vec![0_u8; length];
            if length > 0 {
                let _ = sys::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast());
            }
            String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned()
        }
    }
}

fn checked(call: &'static str, status: nvrtcResult) -> Result<()> {
    if status == nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    // SAFETY: a constant string for any status.
    let text = unsafe { CStr::from_ptr(sys::nvrtcGetErrorString(status)) }.to_string_lossy().into_owned();
    Err(CudaError::Library { call, text })
}

/// Compiles a source for an architecture such as `sm_90`, with further options of the compiler.
///
/// # Errors
/// With the compiler's log where the source is wrong; where the compiler is absent or does not know the architecture.
pub fn compile(name: &str, source: &str, architecture: &str, options: &[String]) -> Result<Compiled> {
    cuda::need(Library::Nvrtc)
        .map_err(|absent| CudaError::Parameter(format!("{}; {}", absent.reason, absent.remedy)))?;
    let text = |text: &str| {
        CString::new(text).map_err(|_| CudaError::Parameter(format!("{name} has a zero byte in its source or options")))
    };
    let start = Instant::now();
    let (source, title) = (text(source)?, text(name)?);
    let mut program = Program(ptr::null_mut());
    // SAFETY: both texts end with a zero and outlive the call; no headers are passed.
    let status = unsafe {
        sys::nvrtcCreateProgram(&raw mut program.0, source.as_ptr(), title.as_ptr(), 0, ptr::null(), ptr::null())
    };
    checked("nvrtcCreateProgram", status)?;
    let mut all = vec![text(&format!("--gpu-architecture={architecture}"))?];
    for option in options {
        all.push(text(option)?);
    }
    let pointers: Vec<*const c_char> = all.iter().map(|option| option.as_ptr()).collect();
    let count = i32::try_from(pointers.len()).unwrap_or(i32::MAX);
    // SAFETY: the options outlive the call.
    let status = unsafe { sys::nvrtcCompileProgram(program.0, count, pointers.as_ptr()) };
    let log = program.log();
    if status == nvrtcResult::NVRTC_ERROR_COMPILATION || status == nvrtcResult::NVRTC_ERROR_INVALID_OPTION {
        return Err(CudaError::Compile { name: name.to_owned(), log });
    }
    checked("nvrtcCompileProgram", status)?;
    let mut length = 0;
    // SAFETY: the image is written into a buffer of the length that the library asked for.
    let image = unsafe {
        checked("nvrtcGetCUBINSize", sys::nvrtcGetCUBINSize(program.0, &raw mut length))?;
        let mut image = vec![0_u8; length];
        checked("nvrtcGetCUBIN", sys::nvrtcGetCUBIN(program.0, image.as_mut_ptr().cast()))?;
        image
    };
    Ok(Compiled { image, seconds: start.elapsed().as_secs_f64(), log })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nvidia::image;

    #[test]
    fn sources_compile_without_a_gpu_where_the_compiler_is() {
        match compile("tiny.cu", "extern \"C\" __global__ void tiny() {}", "sm_90", &[]) {
            Ok(compiled) => {
                assert!(compiled.image.starts_with(b"\x7fELF"));
                assert_eq!(image::whole(&compiled.image).as_ref(), Ok(&compiled.image));
                let cut = &compiled.image[..compiled.image.len() - 1];
                assert!(image::whole(cut).is_err(), "what the compiler makes is not longer than it says");
                let error = compile("bad.cu", "__global__ void bad( { }", "sm_90", &[]).unwrap_err().to_string();
                assert!(error.contains("bad.cu does not compile") && error.contains("error"), "{error}");
            }
            Err(error) => assert!(error.to_string().contains("pip install nvidia-cuda-nvrtc"), "{error}"),
        }
    }
}
