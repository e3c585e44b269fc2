//! The binary `tidewire-load`.

fn main() -> std::process::ExitCode {
    tidewire_load::cli::main()
}
