//! The binary `tidewire`: everything of it is in the library half, so that tests can use it.

/// Frames are allocated on one thread and freed on another all the time, which mimalloc is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tidewire_server::cli::main()
}
