//! chadthrottle on a real kernel: the tools of the tests, and of the benches.
//!
//! - [`lab`]: two network namespaces joined by a veth pair
//! - [`cgroup`]: cgroups that go away with their owner
//! - [`process`]: child processes that end with their owner
//! - [`peer`]: the `traffic` program as one end of a transfer
//! - [`flow`]: a transfer between the two ends of a lab
//! - [`goodput`]: what a receiver got, over time
//! - [`product`]: chadthrottle itself, as a person runs it
//! - [`kernel_view`]: what the kernel has loaded
//! - [`outcome`]: figures and skips, printed

pub mod cgroup;
pub mod flow;
pub mod goodput;
pub mod kernel_view;
pub mod lab;
pub mod moment;
pub mod outcome;
pub mod peer;
pub mod process;
pub mod product;

/// What a test of this crate returns.
pub type TestResult = anyhow::Result<()>;
