//! What operators and references run on, as the worker says it.
//!
//! Must not know which workload runs.

use crate::domain::DeviceInfo;

/// The host's CPU with the facts of this process: architecture and engine threads.
pub fn device() -> DeviceInfo {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = model_name(&cpuinfo).unwrap_or(std::env::consts::ARCH);
    DeviceInfo {
        backend: "cpu".to_owned(),
        name: name.to_owned(),
        facts: [
            ("arch".to_owned(), std::env::consts::ARCH.into()),
            ("threads".to_owned(), rayon::current_num_threads().into()),
        ]
        .into(),
    }
}

fn model_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_where_the_kernel_says_it() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n"), Some("A CPU @ 2 GHz"));
        assert_eq!(model_name("processor\t: 0\n"), None);
    }

    #[test]
    fn the_device_says_its_threads() {
        assert_eq!(device().facts["threads"], rayon::current_num_threads());
    }
}
