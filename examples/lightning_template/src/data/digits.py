"""The 1,797 digits of 8 x 8 pixels that come with scikit-learn, divided by a fixed draw."""

import torch
from lightning import LightningDataModule
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class Digits(LightningDataModule):
    """Shares of the digits to train on, to choose by, and to test on."""

    def __init__(self, batch_size: int, shares: tuple[float, float, float], num_workers: int) -> None:
        super().__init__()
        self.options = {"batch_size": batch_size, "num_workers": num_workers}
        self.shares, self.parts = list(shares), list[Dataset]()

    def setup(self, stage: str) -> None:
        """Read and divide them once."""
        if not self.parts:
            images, labels = load_digits(return_X_y=True)
            whole = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
            self.parts = random_split(whole, self.shares, torch.Generator().manual_seed(42))

    def train_dataloader(self) -> DataLoader:
        """Return batches in an order that is drawn anew for each epoch."""
        return self._loader(0, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Return those to choose by."""
        return self._loader(1)

    def test_dataloader(self) -> DataLoader:
        """Return those to test on."""
        return self._loader(2)

    def _loader(self, part: int, shuffle: bool = False) -> DataLoader:
        return DataLoader(self.parts[part], shuffle=shuffle, **self.options)
