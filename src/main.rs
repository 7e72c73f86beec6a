//! The `gossipykv` program: arguments in, exit code out.

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gossipykv::cli::main()
}
