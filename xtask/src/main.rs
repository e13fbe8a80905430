//! The build, test and maintenance commands of chadthrottle.

mod ebpf;
mod strip;
mod toolchain;
mod workspace;

// What only build.rs uses of it is tested here, where tests can run.
#[allow(dead_code)]
#[path = "../../chadthrottle/bpf/fingerprint.rs"]
mod fingerprint;

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
    /// Builds the eBPF object from source; `cargo build` then embeds it.
    BuildEbpf(ebpf::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::BuildEbpf(options) => ebpf::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
