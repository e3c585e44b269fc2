//! The binary `tidewire`: everything of it is in the library half, so that tests can use it.

fn main() -> std::process::ExitCode {
    tidewire_server::cli::main()
}
