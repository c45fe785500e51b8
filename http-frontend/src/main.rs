//! The `kappa-server` program.

fn main() -> std::process::ExitCode {
    kappa_server::run()
}
