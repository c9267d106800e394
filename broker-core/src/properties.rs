//! How much the property tests go through. The properties themselves stand beside what they are about.

/// Generated cases for each property: `BROKER_PROPERTIES`, or 20,000.
pub(crate) fn cases() -> u32 {
    std::env::var("BROKER_PROPERTIES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20_000)
}
