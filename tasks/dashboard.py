"""The W&B dashboard as code: what we look at first, grouped by family, dataset and model. Needs `aaren[dashboard]`."""

from __future__ import annotations

from typing import Any

from tasks.suite.layout import DATASETS, EXCESS_ACTION_ERROR, METRICS
from tasks.suite.margins import MAIN_METRIC
from tasks.tracking import STEP

NAME = "Aaren against the Transformer"
TITLES = {
    "rl": "Reinforcement learning",
    "events": "Event forecasting",
    "forecasting": "Time series forecasting",
    "classification": "Time series classification",
}


def layout(project: str, entity: str) -> Any:
    """A `wandb_workspaces` workspace, not yet saved: the report's tables, then a section a family.

    Runs are grouped by dataset, then model, so that a bar is a mean over seeds; smoke runs are left out.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    tables: list[Any] = [wr.WeavePanelSummaryTable(table_name=f"tables/{key}") for key in ("summary", "baselines")]
    sections = [ws.Section(name="Verdicts and published baselines", panels=tables, is_open=True)]
    for family in DATASETS:
        extra = [EXCESS_ACTION_ERROR] if family == "rl" else []
        bars = [
            wr.BarPlot(title=f"test {metric.title}", metrics=[f"test/{metric.name}"], groupby="config.model_name")
            for metric in (*METRICS[family], *extra)
        ]
        curves = [
            wr.LinePlot(title=title, x=STEP, y=[key], groupby="config.model_name", title_x="optimiser step")
            for title, key in (
                ("training loss", "train/loss"),
                (f"validation {MAIN_METRIC[family]}", f"val/{MAIN_METRIC[family]}"),
            )
        ]
        sections.append(ws.Section(name=TITLES[family], panels=[*bars, *curves], is_open=family == "forecasting"))
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, smoothing_weight=0, max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Config("profile") != "smoke"),
            groupby=[ws.Config("family"), ws.Config("label"), ws.Config("model_name")],
            pinned_columns=["config:profile", "config:protocol", "config:seed", "summary:status"],
        ),
    )
