//! All cases, to be run under callgrind.

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tidewire_guard::run(|case| {
        case();
        String::new()
    });
}
