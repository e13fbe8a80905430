//! Quantiles of measured values.

use anyhow::{Result, ensure};

/// Measured values, of which there is at least one.
#[derive(Clone, Debug)]
pub struct Quantiles(Vec<f64>);

impl Quantiles {
    /// In any order.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(mut values: Vec<f64>) -> Result<Self> {
        ensure!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Ok(Self(values))
    }

    /// The value that this share of them does not exceed.
    pub fn at(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[((last as f64 * share).round() as usize).min(last)]
    }
}
