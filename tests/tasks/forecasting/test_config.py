"""The shipped configuration: what a dataset file says must reach the job, whatever the profile."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

CONF = Path(__file__).parents[3] / "conf"
HOURLY, QUARTERLY = [8640, 2880, 2880], [34_560, 11_520, 11_520]
ROWS = {
    "ETTh1": HOURLY,
    "ETTh2": HOURLY,
    "ETTm1": QUARTERLY,
    "ETTm2": QUARTERLY,
    "known/seasonal": [94_000, 3_000, 3_000],
}
ROWS |= dict.fromkeys(["Exchange", "Weather", "ECL", "Traffic", "extra/us-temperatures"])


@pytest.mark.parametrize(("dataset", "profile"), [*((name, "quick") for name in ROWS), ("known/seasonal", "paper")])
def test_a_job_has_its_datasets_rows_and_layers(dataset, profile):
    with initialize_config_dir(str(CONF), version_base=None):
        cfg = compose("train", [f"dataset={dataset}", f"profile={profile}"])
    assert cfg.dataset.name == dataset
    assert cfg.task.family == "forecasting"
    assert cfg.task.data.rows == ROWS[dataset]
    assert cfg.task.model.n_layers == (1 if dataset == "known/seasonal" else 2)
    assert (cfg.task.history, cfg.task.data.clean_weather) == (96, False)


def test_paper_is_the_base_codes_protocol():
    with initialize_config_dir(str(CONF), version_base=None):
        task = compose("train", ["dataset=Weather", "profile=paper"]).task
    assert (task.model.d_model, task.model.d_ff, task.model.n_heads, task.model.dropout) == (512, 2048, 8, 0.1)
    assert (task.optim.name, task.optim.lr, task.optim.schedule) == ("adam", 1e-4, "type1")
    assert (task.budget.max_epochs, task.budget.patience, task.data.batch_size) == (10, 3, 32)
