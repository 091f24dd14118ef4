//! How often the second verifier of SAML signatures could not be asked.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

use crate::pipeline::verify::saml;

pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(NotJudged));
}

#[derive(Debug)]
struct NotJudged;

impl Collector for NotJudged {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new(saml::unjudged());
        let help = "SAML messages that the second verifier cannot judge: RSA-PSS, or signatures by two keys";
        counter.encode(encoder.encode_descriptor("saml_not_judged_twice", help, None, counter.metric_type())?)
    }
}
