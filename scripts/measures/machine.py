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
    realtime: bool

    @classmethod
    def here(cls, root: pathlib.Path, realtime: bool) -> "Machine":
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
            realtime=realtime,
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


# A run beside more than this, in cores, is not worth much. A machine with nothing to do uses 0.01.
OTHERS_MAX = 0.1
# Parent of the kernel's own threads. What they do is mostly done for the run itself, such as taking in its packets.
KERNEL_THREADS = 2


class Others:
    """What else uses the processors while a run is under way: other programs, and other guests of the same host as far as it
    tells."""

    def __init__(self):
        self.begun = time.monotonic()
        self.used = self.seconds()

    def cores(self) -> float:
        """How many cores, since the beginning, on average."""
        return round(max(self.seconds() - self.used, 0) / (time.monotonic() - self.begun), 3)

    @staticmethod
    def seconds() -> float:
        """Processor time of all programs but this one and what it has started, and what the host gave to others instead."""
        ticks, parents = {}, {}
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name in front may have spaces and parentheses in it.
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            number = int(path.parent.name)
            # Its own time, and that of children that have ended: a compiler's is not lost with it.
            ticks[number], parents[number] = sum(map(int, fields[11:15])), int(fields[1])

        def is_other(number: int) -> bool:
            while number in parents:
                if number in (os.getpid(), KERNEL_THREADS):
                    return False
                number = parents[number]
            return True

        stolen = int(pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])
        return (stolen + sum(used for number, used in ticks.items() if is_other(number))) / os.sysconf("SC_CLK_TCK")


def processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
