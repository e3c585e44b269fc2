"""Medians of runs, the table in the documentation, and the file of figures behind it."""

import dataclasses
import json
import pathlib
import statistics

from .machine import OTHERS_MAX, Machine

BEGIN = "<!-- figures: scripts/bench --write -->"
END = "<!-- end of figures -->"
MACHINE_KEYS = ["processor", "cores", "kernel", "rustc"]


class Measured:
    """What the runs of one row gave."""

    def __init__(self, row):
        self.row = row
        self.values = {figure.key: [] for figure in row.figures}
        self.commands = []
        self.problems = []
        self.disturbances = []
        self.others = 0.0

    def add(self, values: dict, commands: list) -> None:
        for key, value in values.items():
            self.values[key].append(value)
        self.commands = commands

    def beside(self, run: int, others: float) -> None:
        """Notes how many cores other work used during a run."""
        self.others = max(self.others, others)
        if others > OTHERS_MAX:
            self.disturbances.append(f"run {run}: other work on the machine used {others:.2f} cores")

    def is_whole(self) -> bool:
        """Whether every figure is there and nothing went wrong."""
        return all(self.values.values()) and not self.problems

    def entry(self, machine: Machine) -> dict:
        """For the file of figures."""
        figures = [told(figure, self.values[figure.key]) for figure in self.row.figures if self.values[figure.key]]
        return {
            "title": self.row.title,
            "runs": max(map(len, self.values.values())),
            "figures": figures,
            "commands": self.commands,
            "problems": self.problems[:10] + self.disturbances[:10],
            "others": self.others,
            "machine": dataclasses.asdict(machine),
        }


def told(figure, values: list) -> dict:
    median = statistics.median(values)
    entry = {"key": figure.key, "words": figure.words, "unit": figure.unit}
    entry |= {"median": rounded(median), "lowest": rounded(min(values)), "highest": rounded(max(values))}
    if figure.target:
        entry |= {"target": " ".join(map(str, figure.target)), "met": figure.is_met(median)}
    return entry


def rounded(value: float) -> float:
    return float(f"{value:.6g}")


def shown(value: float) -> str:
    """Three digits, or all of them in threes."""
    if abs(value) >= 1_000:
        return f"{round(value):,}".replace(",", " ")
    if value == int(value):
        return str(int(value))
    return f"{value:.3g}"


class Book:
    """All rows: those measured now, and those that were measured before and written down."""

    def __init__(self, page: pathlib.Path, file: pathlib.Path, machine: Machine):
        self.page, self.file, self.machine = page, file, machine
        self.rows = json.loads(file.read_text()) if file.exists() else {}

    def enter(self, measured: Measured) -> None:
        self.rows[measured.row.name] = measured.entry(self.machine)

    def write(self) -> None:
        """Puts all figures into the file and the table into the page."""
        from .rows import ROWS

        names = [row.name for row in ROWS if row.name in self.rows]
        self.file.write_text(json.dumps({name: self.rows[name] for name in names}, indent=1, ensure_ascii=False) + "\n")
        before, rest = self.page.read_text().split(BEGIN)
        _, after = rest.split(END)
        self.page.write_text(f"{before}{BEGIN}\n\n{self.section(names)}\n{END}{after}")

    def section(self, names: list) -> str:
        """The part of the page that is made here."""
        lines = ["| measure | figure | median | lowest to highest | target |", "|---|---|--:|--:|---|"]
        lines += [line for name in names for line in self.table_lines(name)]
        lines += ["", *self.where(names), "", "The commands, beside the options that say where the server is:", "", "```sh"]
        for name in names:
            lines += [f"# {name}", *self.rows[name]["commands"]]
        return "\n".join([*lines, "```"]) + "\n"

    def table_lines(self, name: str) -> list:
        row = self.rows[name]
        lines = []
        for at, figure in enumerate(row["figures"]):
            title = f"**{row['title']}** (`{name}`)" if at == 0 else ""
            unit = f" {figure['unit']}" if figure["unit"] else ""
            spread = f"{shown(figure['lowest'])} – {shown(figure['highest'])}" if row["runs"] > 1 else ""
            lines.append(f"| {title} | {figure['words']} | {shown(figure['median'])}{unit} | {spread} | {verdict(figure)} |")
        if not row["figures"]:
            lines.append(f"| **{row['title']}** (`{name}`) | no figures | | | |")
        for problem in row["problems"]:
            lines.append(f"| | *{problem.replace('|', '/')}* | | | |")
        return lines

    def where(self, names: list) -> list:
        """On what, and of which commit, as sentences: one for each machine and commit."""
        groups = {}
        for name in names:
            machine = self.rows[name]["machine"]
            key = tuple(machine[fact] for fact in [*MACHINE_KEYS, "commit", "date"])
            key += (machine.get("realtime", False),)
            # Rows that were written down before others were watched do not tell of them.
            others = self.rows[name].get("others")
            groups.setdefault((*key, others is None), []).append((name, self.rows[name]["runs"], machine["load"], others))
        sentences = []
        for (processor, cores, kernel, rustc, commit, date, realtime, unwatched), rows in groups.items():
            what = "All rows" if len(groups) == 1 else ", ".join(f"`{name}`" for name, *_ in rows)
            load = max(load for _, _, load, _ in rows)
            priority = ", with real-time priority" if realtime else ""
            others = "" if unwatched else f", other work meanwhile at most {max(others for *_, others in rows):.2f} cores"
            sentences.append(
                f"{what}: commit {commit}, {date}; {cores} cores of {processor}, Linux {kernel}, rustc {rustc}, load of the"
                f" machine beforehand {load}{others}{priority}. Runs: " + ", ".join(f"{name} {runs}" for name, runs, *_ in rows) + "."
            )
        return sentences

    def lines(self, name: str) -> str:
        """A row for whoever watches."""
        row = self.rows[name]
        lines = [row["title"]]
        for figure in row["figures"]:
            unit = f" {figure['unit']}" if figure["unit"] else ""
            spread = f"  ({shown(figure['lowest'])} to {shown(figure['highest'])})" if row["runs"] > 1 else ""
            verdict_text = verdict(figure).replace("*", "")
            lines.append(f"  {figure['words']:<68} {shown(figure['median']):>10}{unit}{spread}  {verdict_text}")
        return "\n".join(lines + [f"  ! {problem}" for problem in row["problems"]])

    def checks(self, rows: list) -> int:
        """Whether the table has every row and figure, for `--quick`; how many failures."""
        section = self.section([row.name for row in rows])
        missing = [f"{row.name}: {figure.words}" for row in rows for figure in row.figures if figure.words not in section]
        for what in missing:
            print(f"FAILED: not in the table: {what}")
        return min(len(missing), 1)


def verdict(figure: dict) -> str:
    if "target" not in figure:
        return ""
    comparison, bound = figure["target"].split()
    words = f"{'≤' if comparison == '<=' else '≥'} {shown(float(bound))}"
    return words if figure["met"] else f"{words}: **missed**"
