//! A plugin that is loaded and connected: its devices, and how it is asked for them.
//!
//! Must not know programs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::backend::xla::pjrt::{Client, Device, PjrtError, Plugin, Result, Value, offered};
use crate::backend::xla::plugins::{self, Platform};

/// No host has more devices; a CPU's plugin makes as many as it is asked for.
const MOST_DEVICES: usize = 1024;

/// A connected plugin. Fields go in this order: devices before their client.
#[derive(Debug)]
pub struct Engine {
    /// Devices that a workload uses, in order.
    pub devices: Vec<Device>,
    /// Which kind.
    pub platform: Platform,
    /// The connection.
    pub client: Client,
    /// What is known of the plugin and the first device.
    pub facts: BTreeMap<String, Json>,
    /// Vendor's name of the first device.
    pub kind: String,
    /// Where it came from.
    pub plugin: plugins::Plugin,
}

impl Engine {
    /// Connects to `count` devices from number `first` on.
    ///
    /// # Errors
    /// When the plugin cannot be loaded, or has too few devices.
    pub fn open(platform: Platform, plugin: &plugins::Plugin, first: usize, count: usize) -> Result<Self> {
        if first.saturating_add(count) > MOST_DEVICES {
            return Err(PjrtError::Argument(format!(
                "{count} devices from number {first} on are more than any host has"
            )));
        }
        let loaded = Plugin::load(&plugin.path)?;
        let client = loaded.client(&options(platform, first, count))?;
        let devices = client.devices()?;
        // The plugin was asked for these alone, and counts from 0, or it knows no choice (`supports`).
        let found = devices.len();
        let devices: Vec<Device> = devices.into_iter().take(count).collect();
        if devices.len() < count {
            return Err(PjrtError::Argument(format!(
                "{count} devices from number {first} on are asked for, {found} are here"
            )));
        }
        let description = devices[0].description()?;
        let mut facts = said(&loaded, plugin)?;
        let (name, version) = client.platform()?;
        facts.insert("platform".to_owned(), json!(name));
        facts.insert("platform_version".to_owned(), json!(version.lines().next().unwrap_or_default()));
        facts.insert("devices".to_owned(), json!(count));
        for (name, value) in &description.attributes {
            facts.insert(format!("device.{name}"), json!(value.to_string()));
        }
        Ok(Self { devices, platform, client, facts, kind: description.kind, plugin: plugin.clone() })
    }

    /// Most bytes that were ever taken of the first device's memory, where it counts.
    pub fn peak_memory(&self) -> Result<Option<i64>> {
        Ok(offered(self.devices[0].peak_memory())?.flatten())
    }
}

/// What a plugin says of itself, and where it came from.
pub fn said(loaded: &Plugin, plugin: &plugins::Plugin) -> Result<BTreeMap<String, Json>> {
    let mut facts: BTreeMap<String, Json> = [
        ("plugin".to_owned(), json!(plugin.path.display().to_string())),
        ("plugin_bytes".to_owned(), json!(size(&plugin.path))),
        ("package".to_owned(), json!(plugin.package)),
        (API.to_owned(), json!(interface(loaded))),
    ]
    .into();
    for (name, value) in offered(loaded.attributes())?.unwrap_or_default() {
        facts.insert(name, json!(value.to_string()));
    }
    facts.retain(|_, value| !value.is_null());
    Ok(facts)
}

/// Name of the fact that is the interface's version.
const API: &str = "api";

fn interface(plugin: &Plugin) -> String {
    let (major, minor) = plugin.version();
    format!("{major}.{minor}")
}

/// Opens a plugin and tells, name by name, what it says of itself: the interface's version first, which stands in its table, then its
/// attributes. It is not initialised. The interface wants that before any other call; but libtpu looks for its machine then, and
/// every plugin tried (CPU, CUDA, TPU) gives the same attributes without it. One that does not is seen to end the process, or to
/// refuse, which is why this runs in a process that may be lost.
///
/// # Errors
/// When it cannot be loaded, or refuses; what it had told until then stands.
pub fn describe(path: &Path, tell: &mut dyn FnMut(&str, &str)) -> Result<()> {
    let plugin = Plugin::open(path)?;
    tell(API, &interface(&plugin));
    for (name, value) in offered(plugin.attributes())?.unwrap_or_default() {
        tell(&name, &value.to_string());
    }
    Ok(())
}

fn size(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.len())
}

/// How a client is made: CPU plugins make several devices of one processor unless told, and GPU plugins take most of every
/// device's memory.
fn options(platform: Platform, first: usize, count: usize) -> Vec<(String, Value)> {
    match platform {
        Platform::Cpu => vec![("cpu_device_count".to_owned(), Value::Int((first + count) as i64))],
        Platform::Cuda | Platform::Rocm => {
            let devices = (first..first + count).map(|device| device as i64).collect();
            vec![("visible_devices".to_owned(), Value::Ints(devices)), ("preallocate".to_owned(), Value::Bool(false))]
        }
        Platform::Oneapi | Platform::Tpu => Vec::new(),
    }
}
