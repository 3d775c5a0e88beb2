"""How fast and how small: the operator, a training step and a stream, ours beside their rivals, measured here.

`all` measures every part that was not measured yet on this machine with this code, draws the figures and writes the
page that says what is to be seen and which bars hold.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from bench_common import EFFICIENCY, BenchError, Row, is_current, prepare, report

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

Threads = Annotated[int, typer.Option(min=1, help="CPU threads where several are measured")]
Repeats = Annotated[int, typer.Option(min=1, help="measurements; median and quartiles are kept")]
Out = Annotated[Path | None, typer.Option(file_okay=False, help="folder for the CSV, e.g. results/efficiency")]
Folder = Annotated[Path, typer.Option(file_okay=False, help="folder of CSVs, figures and page")]
Most = Annotated[int, typer.Option(min=8, help="leave out longer sequences and more streams; small: a quick look")]
Resume = Annotated[bool, typer.Option("--resume", help="do nothing if the CSV was measured here with this code")]
EVERYTHING = 100_000
PARTS = ("operator", "train-step", "figure5", "streams")


def measure(parts: dict[str, Callable[[], Iterable[Row]]], out: Path | None, resume: bool, settings: str) -> None:
    """Measure each named CSV that is not current, and keep it before the next begins."""
    for name, rows in parts.items():
        if resume and out is not None and is_current(out / f"{name}.csv", settings):
            print(f"{name}: measured before with this code on this machine; measure again with --force")
            continue
        found = list(rows())
        if not found:
            raise typer.BadParameter(f"leaves nothing of {name} to measure; choose a larger one", param_hint="--most")
        report(name, found, out, settings)


@app.command()
def operator(
    threads: Threads = 2, repeats: Repeats = 7, most: Most = EVERYTHING, out: Out = None, resume: Resume = False
) -> None:
    """Prefix attention: time against N, memory kept for backward, what threads help, float32 error."""
    import bench_operator as part

    prepare(1)
    shapes = [shape for shape in part.FAMILIES if shape[1] <= most]
    shapes += [(1, tokens) for tokens in sorted({min(tokens, most) for tokens in part.LENGTHS})]
    few = [(batch, heads, min(tokens, most)) for batch, heads, tokens in part.FEW_ROWS]
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "operator": lambda: part.operator_rows(shapes, repeats, threads, part.HEADS, part.DIM),
        "operator-threads": lambda: part.thread_rows(few, 2 * repeats, threads, part.DIM),
        "operator-error": lambda: part.error_rows(tokens=min(2048, most)),
    }
    measure(parts, out, resume, f"threads={threads} repeats={repeats} most={most}")


@app.command()
def train_step(
    threads: Threads = 1,
    repeats: Repeats = 7,
    most: Most = EVERYTHING,
    models: Annotated[str, typer.Option(help="registered attentions; the last is what the others are set against")] = (
        "aaren,transformer"
    ),
    plugin: Annotated[Path | None, typer.Option(help="a Python file that registers an attention of yours")] = None,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Forward and backward of the whole stack, model against model: the families' paper sizes, and against N."""
    from tasks.plugins import import_plugin

    if plugin is not None:
        import_plugin(plugin)
    import bench_training as part

    from aaren.registry import attention_class

    prepare(threads)
    sizes = [size for size in [*part.FAMILIES, *part.LENGTHS] if size.tokens <= most]
    names = [name.strip() for name in models.split(",")]
    for name in names:
        try:
            attention_class(name)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--models") from error
    settings = f"threads={threads} repeats={repeats} most={most} models={models}"
    measure({"training": lambda: part.training_rows(sizes, names, repeats, threads)}, out, resume, settings)


@app.command()
def figure5(repeats: Repeats = 7, most: Most = EVERYTHING, out: Out = None, resume: Resume = False) -> None:
    """The paper's Figure 5 anew: memory and cumulative time against tokens, one stream and 128, five models."""
    import bench_figure5 as part

    prepare(1)
    several = sorted({min(tokens, most) for tokens in part.PAPER})
    fillings = sorted({min(tokens, most) for tokens in part.PAPER + part.LONG})
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "figure5-1": lambda: part.sampled_rows(1, fillings, repeats),
        "figure5-128": lambda: part.sampled_rows(128, several, min(repeats, 5)),
        "figure5-whole": lambda: part.whole_rows(fillings[1:]),
    }
    measure(parts, out, resume, f"repeats={repeats} most={most}")


@app.command()
def streams(repeats: Repeats = 7, most: Most = EVERYTHING, out: Out = None, resume: Resume = False) -> None:
    """Streaming steps: tokens a second and bytes against the number of streams, beside the bare matrix products."""
    import bench_streams as part

    prepare(1)
    counts = [count for count in part.COUNTS if count <= most]
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "streams-one": lambda: part.one_stream(10 * repeats),
        "streams": lambda: part.many_streams(counts, repeats),
    }
    measure(parts, out, resume, f"repeats={repeats} most={most}")


@app.command()
def events(share: float = 0.25, entities: int = 1000, steps: int = 100, out: Out = None) -> None:
    """Events a CPU-second in training (a StackOverflow epoch, paper size) and streaming, beside the naive encoder."""
    from tasks.events import speed

    prepare(1)
    data, rows = speed.stackoverflow(), []
    rivals: list[tuple[str, Any, bool]] = [("aaren", "aaren", True), ("transformer", "transformer", True)]
    rivals += [("naive softmax, row order", speed.NaiveCausalSoftmax, False)]
    for name, attention, bucketed in rivals:
        rows.append({"model": name} | speed.train_rate(data, attention, bucketed=bucketed, share=share))
    for row in rows:
        row["naive_over_it"] = rows[-1]["epoch_cpu_s"] / row["epoch_cpu_s"]
    report("events-training", rows, out)
    found = [{"model": m} | speed.stream_rate(m, entities=entities, steps=steps) for m in ("aaren", "transformer")]
    report("events-streaming", found, out)


@app.command()
def rl(batch: int = 64, updates: int = 30, episodes: int = 10, steps: int = 100, out: Out = None) -> None:
    """Updates a CPU-second of the Decision Transformer, and CPU time a step of acting beside the simulators alone."""
    from tasks.rl import speed
    from tasks.rl.robots import ROBOTS

    prepare(1)
    robot, models = ROBOTS["hopper"], ("aaren", "transformer")
    training = [{"model": m} | speed.update_rate(robot, m, batch=batch, updates=updates) for m in models]
    report("rl-training", training, out)
    modes = [(model, mode) for model in models for mode in ("window", "reset")] + [("aaren", "stream")]
    runs = [("hopper", *run) for run in modes] + [(name, "aaren", "reset") for name in ROBOTS if name != "hopper"]
    acting = []
    for name, model, mode in runs:
        rates = speed.acting_rate(ROBOTS[name], model, mode, episodes=episodes, steps=steps)
        acting.append({"robot": name, "model": model, "mode": mode} | rates)
    report("rl-acting", acting, out)


@app.command()
def params() -> None:
    """Parameters of one layer of the paper's block (d 512, d_ff 2048, 8 heads): the two counts it prints."""
    from aaren import Backbone

    for attention in ("transformer", "aaren"):
        model = Backbone(attention=attention, d_model=512, n_layers=1, n_heads=8, d_ff=2048, final_norm=False)
        print(f"{attention:12s} {sum(p.numel() for p in model.parameters()):,}")


@app.command()
def figures(out: Folder = EFFICIENCY) -> None:
    """Draw the figures and write the page from the CSVs, without measuring."""
    from bench_figures import draw_all
    from bench_page import quotes, write_page
    from bench_tables import read_tables

    written = [*draw_all(out), write_page(out)]
    print("\n".join(f"written: {path}" for path in written))
    print("for the project's README:", *quotes(read_tables(out)), sep="\n- ")


@app.command(name="all")
def everything(
    repeats: Repeats = 7,
    most: Most = EVERYTHING,
    force: Annotated[bool, typer.Option("--force", help="measure again what was measured before")] = False,
    parts: Annotated[str, typer.Option(help="which of them")] = ",".join(PARTS),
    out: Folder = EFFICIENCY,
) -> None:
    """Measure every part in a process of its own, then draw. A part that fails does not stop the others."""
    chosen = [part.strip() for part in parts.split(",")]
    for part in chosen:
        if part not in PARTS:
            raise typer.BadParameter(f"{part!r} is not one of {', '.join(PARTS)}", param_hint="--parts")
    failed = []
    for part in chosen:
        command = [sys.executable, __file__, part, "--out", str(out), "--repeats", str(repeats), "--most", str(most)]
        begun = time.perf_counter()
        done = subprocess.run([*command, *([] if force else ["--resume"])], check=False)
        print(f"{part}: {'done' if done.returncode == 0 else 'FAILED'} in {time.perf_counter() - begun:.0f} s")
        if done.returncode:
            failed.append(shlex.join(command[1:]))
    figures(out)
    if failed:
        print("failed:", *failed, sep="\n  ", file=sys.stderr)
        raise typer.Exit(1)


def main() -> None:
    """Run the command; an unusable file or option ends in one line, not in a traceback."""
    from tasks.errors import ConfigError
    from tasks.suite.atomic import WriteError

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two busy threads on one free core cost up to 45 times one
    try:
        app()
    except (BenchError, ConfigError, WriteError) as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
