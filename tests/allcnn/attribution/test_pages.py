"""Commands and examples of the pages on pictures: the commands are legal, and the example works."""

import re
import shlex

import pytest
import torch
from support import ROOT

from allcnn.visualize_options import parse_request

PAGES = ("docs/study.md", "docs/attribution.md", "results/README.md")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page, "(?:bash)?") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("python src/visualize.py")]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_legal(page: str):
    found = commands(page)
    assert found
    for texts in found:
        request = parse_request(texts)
        assert request.figures
        if request.kind == "sweeps":
            assert (ROOT / "sweeps" / f"{request.target}.yaml").is_file()


@pytest.mark.parametrize("page", ["docs/study.md", "docs/attribution.md"])
def test_the_five_lines_of_a_page_work(page: str):
    (example,) = blocks(page, "python")
    names: dict[str, object] = {}
    exec(example, names)
    maps = names["maps"]
    assert isinstance(maps, torch.Tensor)
    assert maps.shape == (2, 3, 224, 224)
    assert maps.abs().amax((1, 2, 3)).min() > 0
