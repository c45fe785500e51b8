//! The `kappa-server` program.

/// As in the packages: with the allocator of the system, threads that pass documents on wait for each other's locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kappa_server::run()
}
