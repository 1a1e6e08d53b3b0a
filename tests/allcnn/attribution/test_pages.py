"""Commands and examples of the pages on pictures: the commands are legal, and the example works."""

import pytest
import torch
from pages import arguments_of, blocks
from support import ROOT

from allcnn.visualize_options import parse_request

PAGES = ("docs/study.md", "docs/attribution.md", "results/README.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_legal(page: str):
    found = arguments_of(page, "src/visualize.py", "(?:bash)?")
    assert found
    for _, *texts in found:
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
