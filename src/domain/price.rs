//! A price: what an hour of a device costs, and where and when that was read.
//!
//! A launch keeps the price that its cost was made of as evidence, so that no later change of a table changes what was said.

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Evidence;

/// One entry of a table of prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Price {
    /// The device, as its driver or PJRT names it; or a TPU by its version (`v5e`), which stands for a whole chip.
    pub device: String,
    /// What an hour of one costs, in `currency`.
    pub per_hour: f64,
    /// Code of the currency: `USD`.
    pub currency: String,
    /// What is paid for: on demand or reserved, where, as a part of what.
    pub terms: String,
    /// Where the price was read.
    pub source: String,
    /// The day on which it was read there.
    #[schemars(with = "String")]
    pub date: Date,
}

impl Price {
    /// Who saw it, among the evidence of a launch.
    pub const EVIDENCE: &'static str = "price";
    /// Older prices are said to be so.
    pub const OLD_AFTER_DAYS: i32 = 180;

    /// As evidence of a launch.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let facts: BTreeMap<String, serde_json::Value> = [
            ("device", self.device.as_str().into()),
            ("per_hour", self.per_hour.into()),
            ("currency", self.currency.as_str().into()),
            ("terms", self.terms.as_str().into()),
            ("source", self.source.as_str().into()),
            ("date", self.date.to_string().into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        Evidence { source: Self::EVIDENCE.to_owned(), facts }
    }

    /// From the evidence of a launch; `None` where it is none, or somebody else's.
    #[must_use]
    pub fn of_evidence(evidence: &Evidence) -> Option<Self> {
        let facts = || evidence.facts.clone().into_iter().collect();
        (evidence.source == Self::EVIDENCE).then(|| serde_json::from_value(serde_json::Value::Object(facts())).ok())?
    }

    /// How many days before `day` it was read; negative where that is later.
    #[must_use]
    pub fn age_days(&self, day: Date) -> i32 {
        self.date.until(day).map_or(0, |span| span.get_days())
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_price_survives_as_evidence_and_knows_its_age() {
        let price = Price {
            device: "v5e".to_owned(),
            per_hour: 1.2,
            currency: "USD".to_owned(),
            terms: "on demand, us-west4".to_owned(),
            source: "the maker's page".to_owned(),
            date: date(2026, 3, 1),
        };
        assert_eq!(Price::of_evidence(&price.evidence()), Some(price.clone()));
        let other = Evidence { source: "nvml".to_owned(), ..price.evidence() };
        assert_eq!(Price::of_evidence(&other), None);
        let bare = Evidence { facts: BTreeMap::new(), ..price.evidence() };
        assert_eq!(Price::of_evidence(&bare), None);
        assert_eq!((price.age_days(date(2026, 8, 29)), price.age_days(date(2026, 2, 28))), (181, -1));
    }
}
