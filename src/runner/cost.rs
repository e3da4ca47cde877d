//! What the work of a launch costs: the price of the device that it names over the rates that it reports.
//!
//! Absent, and never zero, where there is no price, no rate, or no telling how much of a device worked. The price goes with the
//! launch as evidence. Must not know where prices come from.

use serde_json::Value as Json;

use crate::domain::{DeviceInfo, Launch, Metric, OutcomeKind, Price, Value};
use crate::hardware::tpu::Version;
use crate::stats::quantile::median;

/// Costs: of which rate they are made, the end of its unit, and of how many they speak.
const COSTS: [(&str, &str, &str, f64); 2] = [
    (Metric::COST_PER_PFLOP, Metric::FLOP_RATE, "FLOP/s", 1e15),
    (Metric::COST_PER_MILLION_ITEMS, Metric::THROUGHPUT, "/s", 1e6),
];

const SECONDS_PER_HOUR: f64 = 3600.0;

/// Adds what the launch cost, where its device has a price.
pub fn add(launch: &mut Launch, prices: &[Price]) {
    let Some(device) = launch.device.as_ref().filter(|_| launch.outcome.kind == OutcomeKind::Measured) else { return };
    let Some((price, share)) = prices.iter().find_map(|price| Some((price, share(price, device)?))) else { return };
    let second = price.per_hour * share / SECONDS_PER_HOUR;
    let costs: Vec<Value> = COSTS
        .iter()
        .filter(|(cost, ..)| rate(launch, cost, "").is_none())
        .filter_map(|(cost, of, unit, many)| {
            let value = second / rate(launch, of, unit)? * many;
            let metric = Metric::cost(cost, &price.currency)?;
            value.is_finite().then_some(Value { metric, value })
        })
        .collect();
    if !costs.is_empty() {
        launch.evidence.push(price.evidence());
        launch.values.extend(costs);
    }
}

/// Which share of what the price is for the launch had to itself; `None` where the price is another device's. What ran on several
/// devices has no cost: nobody says whether its rates are of one or of all.
fn share(price: &Price, device: &DeviceInfo) -> Option<f64> {
    if device.facts.get("devices").and_then(Json::as_u64).is_some_and(|devices| devices != 1) {
        return None;
    }
    if price.device == device.name {
        return Some(1.0);
    }
    let chip = Version::of_kind(&device.name)?.chip();
    if price.device != chip.name {
        return None;
    }
    // A device of PJRT may be half a chip.
    let cores: f64 = device.facts.get("device.num_cores")?.as_str()?.parse().ok()?;
    Some(cores / f64::from(chip.cores))
}

/// What a launch reports of a metric whose unit ends so: its value, or the median of its samples.
fn rate(launch: &Launch, name: &str, unit: &str) -> Option<f64> {
    let is_it = |metric: &Metric| metric.name == name && metric.unit.ends_with(unit);
    let single = launch.values.iter().find(|value| is_it(&value.metric)).map(|value| value.value);
    let sampled = || launch.samples.iter().find(|samples| is_it(&samples.metric));
    single.or_else(|| sampled().map(|samples| median(&samples.values)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::date;

    use super::*;
    use crate::domain::{LaunchId, Outcome};

    fn price(device: &str, per_hour: f64) -> Price {
        Price {
            device: device.to_owned(),
            per_hour,
            currency: "EUR".to_owned(),
            terms: "a test".to_owned(),
            source: "here".to_owned(),
            date: date(2026, 9, 1),
        }
    }

    /// A measured launch of a device with these facts, at 200 TFLOP/s and 5000 tokens a second.
    fn launch(device: &str, facts: &[(&str, Json)]) -> Launch {
        let rate = |name: &str, unit: &str, value| {
            let metric = Metric { unit: unit.to_owned(), ..Metric::standard(name).expect("in the table") };
            Value { metric, value }
        };
        Launch {
            id: LaunchId::fresh(),
            case: "a@xla:tpu".into(),
            index: 0,
            position: 0,
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            outcome: Outcome::measured(),
            samples: Vec::new(),
            values: vec![rate(Metric::FLOP_RATE, "FLOP/s", 2e14), rate(Metric::THROUGHPUT, "tokens/s", 5000.0)],
            checks: Vec::new(),
            device: Some(DeviceInfo {
                backend: "xla:tpu".to_owned(),
                name: device.to_owned(),
                facts: facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            }),
            warmup: None,
            stop: None,
            evidence: Vec::new(),
            unknown: Vec::new(),
            log: String::new(),
        }
    }

    /// Costs by name, in their units, and the price that goes with them.
    fn costs(mut launch: Launch, prices: &[Price]) -> (Vec<(String, String, f64)>, Option<Price>) {
        let before = launch.values.len();
        add(&mut launch, prices);
        let told = launch.values[before..].iter();
        let told = told.map(|value| (value.metric.name.clone(), value.metric.unit.clone(), value.value)).collect();
        (told, launch.evidence.iter().find_map(Price::of_evidence))
    }

    #[test]
    fn costs_are_the_price_over_the_rates() {
        let h100 = price("NVIDIA H100 80GB HBM3", 3.6);
        let (told, with) = costs(launch("NVIDIA H100 80GB HBM3", &[]), &[price("NVIDIA H100 PCIe", 9.0), h100.clone()]);
        // A tenth of a cent a second: five seconds for 10^15 operations, two hundred for a million tokens.
        let [pflop, million] = <[_; 2]>::try_from(told).expect("two costs");
        assert_eq!((pflop.0.as_str(), pflop.1.as_str()), ("cost_per_pflop", "EUR/PFLOP"));
        assert!((pflop.2 - 0.005).abs() < 1e-15, "{pflop:?}");
        assert_eq!((million.0.as_str(), million.1.as_str()), ("cost_per_million_items", "EUR/Mitems"));
        assert!((million.2 - 0.2).abs() < 1e-12, "{million:?}");
        assert_eq!(with, Some(h100));
    }

    #[test]
    fn a_tpu_is_paid_for_by_the_chip() {
        let cores = |cores: &str| [("device.num_cores", Json::from(cores))];
        let pflop = |device: &str, facts: &[(&str, Json)], prices: &[Price]| {
            costs(launch(device, facts), prices).0.first().map(|cost| (cost.2 * 1e6).round() / 1e6)
        };
        let prices = [price("v5e", 3.6), price("v3", 3.6), price("v4", 3.6)];
        assert_eq!(pflop("TPU v5 lite", &cores("1"), &prices), Some(0.005));
        assert_eq!(pflop("TPU v4", &cores("2"), &prices), Some(0.005), "one device is the whole chip");
        assert_eq!(pflop("TPU v3", &cores("1"), &prices), Some(0.0025), "half a chip costs half");
        assert_eq!(pflop("TPU v3", &[], &prices), None, "which share is not told");
        assert_eq!(pflop("TPU v6 lite", &cores("1"), &prices), None);
    }

    #[test]
    fn what_is_not_known_is_absent_and_never_zero() {
        let prices = [price("cpu", 3.6)];
        let none = (Vec::new(), None);
        assert_eq!(costs(launch("cpu", &[]), &[]), none);
        assert_eq!(costs(launch("another cpu", &[]), &prices), none);
        assert_eq!(costs(launch("cpu", &[("devices", Json::from(4))]), &prices), none, "rates of one, or of all?");
        assert_eq!(costs(launch("cpu", &[("devices", Json::from(1))]), &prices).0.len(), 2);
        let mut nameless = launch("cpu", &[]);
        nameless.device = None;
        assert_eq!(costs(nameless, &prices), none);
        let mut failed = launch("cpu", &[]);
        failed.outcome.kind = OutcomeKind::Failed;
        assert_eq!(costs(failed, &prices), none);
        let mut still = launch("cpu", &[]);
        still.values.clear();
        assert_eq!(costs(still, &prices), none);
        let mut idle = launch("cpu", &[]);
        idle.values[0].value = 0.0;
        assert_eq!(costs(idle, &prices).0.len(), 1, "nothing divides by a rate of zero");
        let mut own = launch("cpu", &[]);
        own.values[0].metric = Metric::cost(Metric::COST_PER_PFLOP, "USD").expect("a cost");
        let told = costs(own, &prices).0;
        assert_eq!(told.len(), 1, "what a command says of itself stays: {told:?}");
    }
}
