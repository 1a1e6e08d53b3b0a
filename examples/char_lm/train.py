"""A small transformer that learns the next character of a text: `python train.py --help`."""

import hashlib
import math
from pathlib import Path
from pydoc_data.topics import topics

import hydra
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

import strive


class Block(nn.Module):
    """Causal attention and two linear layers, each behind a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations after this block; x: [batch, characters, width]."""
        batch, length, width = x.shape
        parts = self.project(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Predicts the next character at each place."""

    def __init__(self, characters: int, config: DictConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, config.width)
        self.positions = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.blocks = nn.Sequential(*(Block(config.width, config.heads) for _ in range(config.layers)))
        self.norm, self.head = nn.LayerNorm(config.width), nn.Linear(config.width, characters)

    def forward(self, text: Tensor) -> Tensor:
        """Return logits [batch, characters, alphabet]; text: int64 [batch, characters]."""
        x = self.embed(text)
        if self.positions is not None:
            x = x + self.positions.weight[: text.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def read_text(characters: int) -> tuple[Tensor, int]:
    """Return the text as numbers, and how many different characters it has: Python's own help topics."""
    text = "\n".join(topics[name] for name in sorted(topics))[:characters]
    strive.fingerprint("text", hashlib.sha256(text.encode()).hexdigest()[:16])
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    return torch.tensor([alphabet[character] for character in text]), len(alphabet)


def batch(text: Tensor, config: DictConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random pieces of the text, and the same one character later."""
    starts = torch.randint(len(text) - config.context - 1, (config.batch_size,), generator=generator)
    pieces = torch.stack([text[start : start + config.context + 1] for start in starts])
    return pieces[:, :-1], pieces[:, 1:]


@torch.no_grad()
def score(net: nn.Module, text: Tensor, config: DictConfig) -> float:
    """Return the loss on a held-out text, in nats per character."""
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(config.val_batches):
        inputs, targets = batch(text, config, generator)
        losses.append(F.cross_entropy(net(inputs).flatten(0, 1), targets.flatten()).item())
    return sum(losses) / len(losses)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> dict[str, float]:
    """Train one net, and return how well it predicts."""
    torch.manual_seed(config.seed)
    text, characters = read_text(config.characters)
    train, val = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    net = Transformer(characters, config.model)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    generator = torch.Generator().manual_seed(config.seed)
    parts = {"net": net, "optimizer": optimizer, "schedule": schedule}
    step = 0
    if path := strive.load():
        state = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"])
        step = state["step"]

    def write(path: Path) -> None:
        own = {name: part.state_dict() for name, part in parts.items()}
        torch.save(own | {"generator": generator.get_state(), "step": step}, path)

    while step < config.steps:
        inputs, targets = batch(train, config, generator)
        loss = F.cross_entropy(net(inputs).flatten(0, 1), targets.flatten())
        if not math.isfinite(loss.item()):
            raise strive.Diverged(f"the loss became {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        step += 1
        if step % config.log_every == 0:
            strive.log(step, train_loss=loss.item(), val_loss=score(net, val, config))
        strive.save(write)
    return {
        "val_loss": strive.metric(score(net, val, config), chance=math.log(characters)),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
    }


if __name__ == "__main__":
    main()
