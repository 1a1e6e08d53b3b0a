"""Classifies a table of numbers with scikit-learn. Nothing here knows of strive."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> dict[str, float]:
    """Fit one model and return how well it does on rows that it has not seen."""
    rows, labels = load_breast_cancer(return_X_y=True)
    train_rows, test_rows, train_labels, test_labels = train_test_split(
        rows, labels, test_size=config.test_share, random_state=config.seed, stratify=labels
    )
    model = instantiate(config.model)
    if config.scale:
        model = make_pipeline(StandardScaler(), model)
    model.fit(train_rows[:, : config.columns], train_labels)
    scores = model.predict_proba(test_rows[:, : config.columns])[:, 1]
    return {"accuracy": accuracy_score(test_labels, scores > 0.5), "auc": roc_auc_score(test_labels, scores)}


if __name__ == "__main__":
    main()
