//! The build, test and maintenance commands of chadthrottle.

mod bench;
mod clean;
mod ebpf;
mod field;
mod privilege;
mod product;
mod run;
mod rustc;
mod setup;
mod soak;
mod strip;
mod tally;
mod test;
mod timely;
mod toolchain;
mod vm;
mod workspace;

#[path = "../../chadthrottle/bpf/fingerprint.rs"]
mod fingerprint;
#[cfg(test)]
mod fingerprint_tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The build, test and maintenance commands of chadthrottle.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the program and starts it, through sudo when not root
    Run(run::Options),
    /// Runs all tests that can run here; those on the kernel need root or sudo without a password
    Test(test::Options),
    /// Measures the program, here as root and in virtual machines, and writes docs/benchmarks.md
    Bench(bench::Options),
    /// Runs other people's servers and clients under limits, and writes docs/field.md
    Field(field::Options),
    /// Lets everything come and go under a daemon's limits, and writes docs/soak.md
    Soak(soak::Options),
    /// Runs the kernel tests, or a command, on the distribution's kernels in virtual machines
    Vm(vm::Options),
    /// Builds the eBPF object from source; cargo build then embeds it
    BuildEbpf(ebpf::Options),
    /// Builds the eBPF object, if it can be built here, and the program around it
    BuildRelease,
    /// Installs what the eBPF build and the tests need, asking nothing
    Setup(setup::Options),
    /// Removes the target directory, and with it a fresh eBPF object
    Clean,
}

fn main() -> ExitCode {
    if let Some(code) = rustc::called() {
        return code;
    }
    let done = match Cli::parse().task {
        Task::Run(options) => run::run(&options).map(success),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Field(options) => field::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::BuildEbpf(options) => ebpf::run(&options).map(success),
        Task::BuildRelease => product::run().map(success),
        Task::Setup(options) => setup::run(&options).map(success),
        Task::Clean => clean::run().map(success),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
