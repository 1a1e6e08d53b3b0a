"""Trains, and tests the best checkpoint. Knows nothing of strive."""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
import lightning
from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parents[1]
os.environ["PROJECT_ROOT"] = str(ROOT)  # for configs/paths
sys.path.insert(0, str(ROOT))


def train(config: DictConfig) -> dict[str, Any]:
    """Build everything from the config, train it, and return all metrics."""
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data = hydra.utils.instantiate(config.data)
    model = hydra.utils.instantiate(config.model)
    callbacks = [hydra.utils.instantiate(each) for each in (config.callbacks or {}).values()]
    loggers = [hydra.utils.instantiate(each) for each in (config.logger or {}).values()]
    trainer = hydra.utils.instantiate(config.trainer, callbacks=callbacks, logger=loggers)
    trainer.fit(model, datamodule=data, ckpt_path=config.ckpt_path)
    metrics = dict(trainer.callback_metrics)
    if config.test:
        trainer.test(model, datamodule=data, ckpt_path=trainer.checkpoint_callback.best_model_path or None)
        metrics |= trainer.callback_metrics
    return metrics


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(config: DictConfig) -> float | None:
    """Return the metric that a search would optimise."""
    metrics = train(config)
    return float(metrics[config.optimized_metric]) if config.optimized_metric else None


if __name__ == "__main__":
    main()
