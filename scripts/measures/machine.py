"""Where it ran: figures without that cannot be compared."""

import dataclasses
import os
import pathlib
import platform
import resource
import subprocess
import time


@dataclasses.dataclass
class Machine:
    cores: int
    processor: str
    kernel: str
    rustc: str
    commit: str
    date: str
    load: float
    descriptors: int

    @classmethod
    def here(cls, root: pathlib.Path) -> "Machine":
        def said(*command: str) -> str:
            done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            return done.stdout.strip()

        # The server and the tool may have as many as the system allows at all.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        changed = said("git", "status", "--porcelain", "--untracked-files=no", "--", "crates", "Cargo.toml", "Cargo.lock")
        return cls(
            cores=os.cpu_count() or 1,
            processor=processor(),
            kernel=platform.release(),
            rustc=(said("rustc", "--version").split() + ["?", "?"])[1],
            commit=said("git", "rev-parse", "--short=10", "HEAD") + ("+" if changed else ""),
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            load=round(os.getloadavg()[0], 2),
            descriptors=hard,
        )

    def warnings(self) -> list:
        """What makes figures worth less."""
        warnings = []
        if self.cores < 2:
            warnings.append("server and load tool share one core")
        if self.load > 0.3:
            warnings.append(f"the machine is busy: load {self.load}")
        if self.commit.endswith("+"):
            warnings.append("the sources have changes that are not committed")
        return warnings


def processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
