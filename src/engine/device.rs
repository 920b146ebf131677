//! Everything that depends on the machine: threads, memory, the device and the precision of products.
//!
//! The engine links no CUDA library. Where a GPU is present and `libtorch_cuda.so` lies beside
//! `libtorch_cpu.so` (or in `../cuda` from there), it is opened before the first call into torch,
//! and its static initialisers register the device.

use crate::error::Result;
use persona_core::probe::Probe;
use persona_core::protocol::Limits;
use persona_core::spec::Precision;
use persona_core::{Error, ErrorKind};
use persona_engine::limits;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tch::{Cuda, Device, Kind, Tensor};

/// Where and how products are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compute {
    pub device: Device,
    /// Products in bf16, sums and everything else in f32.
    pub half: bool,
}

impl Compute {
    /// The device and precision that a specification asks for.
    pub fn choose(device: &str, precision: Precision) -> Result<Compute> {
        let device = choose_device(device)?;
        let half = match precision {
            Precision::F32 => false,
            Precision::Bf16 => true,
            Precision::Auto => multiplies_bf16(device),
        };
        Ok(Compute { device, half })
    }

    /// One thread-independent f32 device, for tests.
    #[cfg(test)]
    pub fn plain() -> Compute {
        Compute { device: Device::Cpu, half: false }
    }

    /// The type of a product's factors.
    pub fn kind(&self) -> Kind {
        if self.half { Kind::BFloat16 } else { Kind::Float }
    }

    /// `x W^T + b` for `x` [n, in], `W` [out, in], `b` [out]: in f32 whatever the factors are.
    ///
    /// On a processor layers stay in f32: at the widths of these models rounding costs more than it saves.
    pub fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        if !(self.half && self.device.is_cuda()) {
            return Ok(x.f_linear(weight, bias)?);
        }
        let to = |t: &Tensor| t.f_to_dtype(Kind::BFloat16, false, false);
        let product = match bias {
            Some(bias) => to(x)?.f_linear(&to(weight)?, Some(&to(bias)?))?,
            None => to(x)?.f_linear(&to(weight)?, None::<&Tensor>)?,
        };
        Ok(product.f_to_dtype(Kind::Float, false, false)?)
    }

    pub fn precision_name(&self) -> &'static str {
        if self.half { "bf16" } else { "f32" }
    }

    /// Device as in a specification, with the model of a GPU.
    pub fn device_name(&self) -> String {
        match self.device {
            Device::Cuda(n) => match gpu_name(n) {
                Some(name) => format!("cuda:{n} ({name})"),
                None => format!("cuda:{n}"),
            },
            _ => "cpu".into(),
        }
    }
}

/// Brings a tensor from this process's memory to the device. To a GPU by way of pinned memory, so
/// that the copy runs beside what the GPU computes; libtorch keeps that memory until it is done.
pub fn upload(tensor: Tensor, device: Device) -> Result<Tensor> {
    match device {
        Device::Cuda(_) => {
            // Not `pin_memory`, which tch calls in a way that libtorch warns of.
            let (kind, pinned) = (tensor.kind(), tensor.f_internal_pin_memory(device)?);
            Ok(pinned.f_to_device_(device, kind, true, false)?)
        }
        _ => Ok(tensor),
    }
}

/// The release of libtorch that tch 0.26 is written for and that the engine links.
pub const LIBTORCH: &str = "2.13.0";

/// Read by libgomp when it is loaded, which is before any line of this program runs.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// Starts the program anew with threads that sleep while they wait for work, unless its environment
/// says how they wait. Spinning threads starve the other processes of a busy server, and each
/// other: on two busy cores training took 4.6 times the processor time.
pub fn let_threads_sleep() {
    if std::env::var_os(WAIT_POLICY).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        // Returns only where it failed, and then waiting threads spin.
        let error = Command::new(program).args(std::env::args_os().skip(1)).env(WAIT_POLICY, "passive").exec();
        eprintln!("persona-engine: {error}");
    }
}

/// Applies the limits of a job to this process and to torch. Before the first call into torch, and once.
pub fn apply(limits: &Limits) {
    limits::apply(limits);
    // What could not be loaded matters only to a job that asks for it.
    let _ = load_cuda();
    tch::set_num_threads(c_int::try_from(limits::threads(limits)).unwrap_or(c_int::MAX));
    tch::set_num_interop_threads(1);
}

/// Threads that torch computes with.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

fn choose_device(wanted: &str) -> Result<Device> {
    let number = match wanted {
        "cpu" => return Ok(Device::Cpu),
        "auto" | "cuda" => 0,
        other => other
            .strip_prefix("cuda:")
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| no_device(wanted, "It is unknown."))?,
    };
    let loaded = load_cuda();
    let count = if loaded.is_ok() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 };
    if number < count {
        return Ok(Device::Cuda(number));
    }
    match (wanted, loaded) {
        ("auto", _) => Ok(Device::Cpu),
        (_, Err(reason)) => Err(no_device(wanted, reason).into()),
        (_, Ok(())) => Err(no_device(wanted, &format!("libtorch finds {count} CUDA devices.")).into()),
    }
}

/// Where "auto" computes here, and why that is no GPU.
pub fn probe() -> Probe {
    let loaded = load_cuda();
    let count = if loaded.is_ok() { Cuda::device_count() } else { 0 };
    let compute = Compute { device: if count > 0 { Device::Cuda(0) } else { Device::Cpu }, half: false };
    let no_gpu = match loaded {
        _ if count > 0 => None,
        Err(reason) => Some(reason.to_string()),
        Ok(()) => Some("libtorch finds no CUDA device.".into()),
    };
    Probe { libtorch: LIBTORCH.into(), device: compute.device_name(), no_gpu }
}

fn no_device(wanted: &str, reason: &str) -> Error {
    Error::new(ErrorKind::Device, format!("device \"{wanted}\" is not available"))
        .detail(reason)
        .hint("Choose training.device \"auto\" or \"cpu\", or install persona's CUDA libraries.")
}

/// Opens libtorch's CUDA half once; a sentence says why it could not.
fn load_cuda() -> std::result::Result<(), &'static str> {
    static LOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(open_cuda).as_ref().map(|_| ()).map_err(String::as_str)
}

fn open_cuda() -> std::result::Result<(), String> {
    if !Path::new("/dev/nvidiactl").exists() {
        return Err("This machine has no NVIDIA driver.".into());
    }
    let folder = libtorch_folder().ok_or("The folder of libtorch_cpu.so is unknown.")?;
    let library = [folder.join("libtorch_cuda.so"), folder.join("../cuda/libtorch_cuda.so")]
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| format!("There is no libtorch_cuda.so in {}.", folder.display()))?;
    open_globally(&library)
}

/// Read from the process's own map, for the loader alone knows which of its paths it took.
fn libtorch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    Some(Path::new(&line[line.find('/')?..]).parent()?.to_owned())
}

/// Lazily: functions of libraries that no call of ours reaches (NCCL's) may be missing in the release that is there.
fn open_globally(library: &Path) -> std::result::Result<(), String> {
    let path = CString::new(library.as_os_str().as_encoded_bytes()).map_err(|e| format!("{e}."))?;
    // SAFETY: the path is a C string; the library is libtorch's own and is meant to be opened so.
    // It stays open for the life of the process.
    unsafe {
        if !libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL).is_null() {
            return Ok(());
        }
        let reason = libc::dlerror();
        match reason.is_null() {
            true => Err(format!("Could not open {}.", library.display())),
            false => Err(format!("Could not open it: {}.", CStr::from_ptr(reason).to_string_lossy())),
        }
    }
}

/// Whether the device has instructions for bf16 products.
fn multiplies_bf16(device: Device) -> bool {
    match device {
        Device::Cuda(n) => gpu_attribute(n, COMPUTE_CAPABILITY_MAJOR).is_some_and(|major| major >= 8),
        _ => cpu_multiplies_bf16(),
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_multiplies_bf16() -> bool {
    // CPUID leaf 7, subleaf 0, EDX bit 22: AMX-BF16, which std does not detect in stable Rust.
    let amx = std::arch::x86_64::__cpuid_count(7, 0).edx & (1 << 22) != 0;
    is_x86_feature_detected!("avx512bf16") || amx
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_multiplies_bf16() -> bool {
    false
}

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` of cuda.h; bf16 needs 8 (Ampere).
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;

/// A function of the driver's library, which libtorch's CUDA half has opened by then.
fn driver(symbol: &CStr) -> Option<*mut c_void> {
    // SAFETY: both names are C strings; the handle is never closed.
    unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            return None;
        }
        let address = libc::dlsym(library, symbol.as_ptr());
        (!address.is_null()).then_some(address)
    }
}

fn gpu_attribute(device: usize, attribute: c_int) -> Option<c_int> {
    let address = driver(c"cuDeviceGetAttribute")?;
    let mut value = 0;
    // SAFETY: CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute, CUdevice), with CUdevice an int.
    let status = unsafe {
        let get: extern "C" fn(*mut c_int, c_int, c_int) -> c_int = std::mem::transmute(address);
        get(&mut value, attribute, device as c_int)
    };
    (status == 0).then_some(value)
}

fn gpu_name(device: usize) -> Option<String> {
    let address = driver(c"cuDeviceGetName")?;
    let mut name = [0 as c_char; 128];
    // SAFETY: CUresult cuDeviceGetName(char *name, int length, CUdevice); it ends the name with a zero.
    unsafe {
        let get: extern "C" fn(*mut c_char, c_int, c_int) -> c_int = std::mem::transmute(address);
        (get(name.as_mut_ptr(), name.len() as c_int, device as c_int) == 0)
            .then(|| CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_always_there_and_auto_finds_something() {
        assert_eq!(choose_device("cpu").unwrap(), Device::Cpu);
        assert!(Compute::choose("auto", Precision::Auto).is_ok());
    }

    #[test]
    fn a_probe_says_why_there_is_no_gpu() {
        let probe = probe();
        assert_eq!(probe.no_gpu.is_none(), probe.device.starts_with("cuda"), "{probe:?}");
    }

    #[test]
    fn an_absent_gpu_is_an_error_with_a_reason() {
        let error = choose_device("cuda:99").unwrap_err().0;
        assert_eq!(error.kind, ErrorKind::Device);
        assert!(error.detail.is_some() && error.hint.is_some());
    }

    #[test]
    fn the_folder_of_libtorch_is_found() {
        tch::manual_seed(1);
        assert!(libtorch_folder().unwrap().join("libtorch_cpu.so").exists());
    }
}
