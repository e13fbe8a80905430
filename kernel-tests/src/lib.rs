//! chadthrottle on a real kernel: the tools of the tests, and of the benches.
//!
//! The test programs want root and the program under test, which `CHADTHROTTLE_BIN` names:
//! `cargo xtask test` runs them so. A test begins with [`kernel_test!`], which skips it where it
//! can't run. Most tests wait much and use little, so several threads (`--test-threads=6`) make a
//! run short; those that need the machine for themselves say so: `kernel_test!(alone)`. Nothing
//! leaves the machine: traffic stays in network namespaces that go away with the test.
//!
//! - [`lab`]: two network namespaces joined by a veth pair
//! - [`bottleneck`]: two machines behind a slow link
//! - [`cgroup`]: cgroups that go away with their owner
//! - [`home`]: a daemon, and everything it has on disk
//! - [`process`]: child processes that end with their owner
//! - [`named_program`]: the traffic program under another name
//! - [`peer`]: the `traffic` program as one end of a transfer
//! - [`flow`]: a transfer between the two ends of a lab
//! - [`goodput`]: what a receiver got, over time
//! - [`product`]: chadthrottle itself, as a person runs it
//! - [`reaction`]: how soon a limit is kept, and gone
//! - [`nginx`]: nginx with two workers
//! - [`transfer`]: a transfer from one end to another, and what arrived of it
//! - [`clients`]: curl and wget under a limit
//! - [`kernel_view`]: what the kernel has loaded
//! - [`queue`]: queueing disciplines, and what they do to round trips
//! - [`machine`], [`results`], [`table`], [`document`]: what was measured on what, kept, and shown in a document
//! - [`outcome`]: a test's name, its turn on the machine, figures and skips

pub mod bottleneck;
pub mod cgroup;
pub mod clients;
pub mod document;
pub mod flow;
pub mod goodput;
pub mod home;
pub mod kernel_view;
pub mod lab;
pub mod limiting;
pub mod machine;
pub mod moment;
pub mod named_program;
pub mod newcomers;
pub mod nginx;
pub mod outcome;
pub mod peer;
pub mod process;
pub mod product;
pub mod quantiles;
pub mod queue;
pub mod reaction;
pub mod results;
pub mod table;
pub mod transfer;

/// What a test of this crate returns.
pub type TestResult = anyhow::Result<()>;
