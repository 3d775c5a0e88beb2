"""A live forecast of a simulated stream: trains for seconds, then predicts every next event as time goes by.

Try: python scripts/events_demo.py --attention transformer --speed 5
"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

BAR = 30


def main(
    attention: Annotated[str, typer.Option(help="any registered attention")] = "aaren",
    process: Annotated[str, typer.Option(help="hawkes, hawkes-marked, poisson, renewal, self-correcting")] = "hawkes",
    steps: Annotated[int, typer.Option(min=1, help="training steps before the stream starts")] = 400,
    events: Annotated[int, typer.Option(min=2, help="events to stream")] = 60,
    speed: Annotated[float, typer.Option(min=0, help="time units a second; 0: as fast as it goes")] = 2.0,
    horizon: Annotated[float, typer.Option(min=0.01, help="'an event within ...' is asked for this long")] = 1.0,
    seed: int = 0,
) -> None:
    """Watch a model forecast a stream whose law is known, one event at a time, in constant memory."""
    from tasks.events.live import Monitor, endless, train_quickly
    from tasks.events.simulate import process as find_process

    console = Console()
    try:
        law = find_process(process)
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0]), param_hint="--process") from error
    if not hasattr(law, "n_events"):
        raise typer.BadParameter("takes a process without a window", param_hint="--process")
    with console.status(f"training {attention} for {steps} steps on {process} ..."):
        forecaster = train_quickly(law, attention=attention, steps=steps, seed=seed)
    law.n_events = events  # pyright: ignore[reportAttributeAccessIssue]
    monitor, now = Monitor(forecaster), 0.0

    def panel(waited: float) -> Table:
        table = Table(title=f"{attention} on {process}", show_header=False, title_justify="left")
        chance = monitor.chance(waited, horizon)
        table.add_row("time", f"{now:.2f}, {waited:.2f} since event {monitor.count + 1}")
        table.add_row(f"event within {horizon:g}", f"{'#' * round(BAR * chance):<{BAR}} {chance:.0%}")
        if monitor.count:
            table.add_row("NLL so far", f"{monitor.nll / monitor.count:+.3f} nats/event")
            table.add_row("the truth's", f"{monitor.true_nll / monitor.count:+.3f} nats/event")
            table.add_row("calibration", f"KS {monitor.drift:.3f} over {len(monitor.transforms)} events")
        table.add_row("state", f"{monitor.state.nbytes} bytes")
        return table

    live = Live(console=console, refresh_per_second=12) if console.is_terminal else None
    if live:
        live.start()
    try:
        for when, mark, true_log_prob in endless(law, seed):
            while speed > 0 and monitor.law is not None and now < when:
                time.sleep(min(0.08, (when - now) / speed))
                now = min(when, now + 0.08 * speed)
                if live:
                    live.update(panel(now - float(monitor.state.last)))
            now = when
            monitor.take(when, mark, true_log_prob)
            if live:
                live.update(panel(0.0))
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        if live:
            live.stop()
    if not live:
        console.print(panel(0.0))


if __name__ == "__main__":
    typer.run(main)
