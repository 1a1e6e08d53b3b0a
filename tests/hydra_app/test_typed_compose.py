import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from overrides import parsed
from support import MakeConfig

from allcnn.config import Config
from strive.config.error_text import complaint
from strive.errors import ConfigError
from strive.sweeps.compose import Composer
from strive.sweeps.planner import Planner

CELLS = (
    (),
    ("model=model_a", "optimizer.lr=1e-1", "seed=3"),
    ("seed=3", "model=model_a", "optimizer.lr=1", "precision=fp32"),
    ("augment=flip_shift", "augment.shift_px=4", "optimizer.drop_at=[1/2, 3/4]"),
    ("model=convpool_cnn_b", "model.pool_norm=inf", "model.width=1"),
    ("model.base=a", "model.variant=strided", "optimizer.drop_at=[]"),
    ("model=extra/custom", "model.builder=a.b:c", "+model.kwargs.depth=3", "+model.kwargs.names=[x,y]"),
    ("data=image_folder", "data.name=mine", "data.root='a folder, with a comma'"),
    ("needs.gres='gpu:1'", "trainer.threads=2", "trainer.device=cpu"),
    ("optimizer.lr=0.1", "optimizer.lr=0.2"),
    ("optimizer.lr=0.2", "++optimizer.lr=0.1"),
    ("++optimizer.lr=0.1", "optimizer.lr=0.2"),
    ("optimizer.lr=0.2", "optimizer={lr:0.3}"),
    ("optimizer={lr:0.3}", "optimizer.lr=0.2", "optimizer={momentum:0.1}", "model={width:2}", "model=model_a"),
    ("optimizer.drop_at=[1/2,3/4]", "optimizer.drop_at.0=1/3"),
    ("optimizer.drop_at.0=1/3", "optimizer.drop_at=[1/2,3/4]"),
    ("seed=3", "trainer={threads:'${seed}'}", "seed=4"),
    (
        "model=extra/custom",
        "model={builder:a.b:c}",
        "+model.kwargs={a:1,b:{c:2}}",
        "++model.kwargs.a=3",
        "~model.kwargs.b",
    ),
)


@pytest.mark.parametrize("overrides", CELLS, ids=" ".join)
def test_a_cell_is_what_hydra_composes(composer: Composer, make_config: MakeConfig, tmp_path: Path, overrides):
    # make_config asks Hydra for the whole cell each time.
    assert composer.compose((f"runs={tmp_path / 'runs'}", *overrides)) == make_config(*overrides)


@pytest.mark.parametrize("key", ["+unknown", "unknown", "++optimizer.unknown"])
def test_a_key_that_no_cell_has_is_refused_for_all_values_after_one(composer: Composer, monkeypatch, key: str):
    loaded: list[object] = []
    original = composer._load
    monkeypatch.setattr(composer, "_load", lambda overrides: loaded.append(overrides) or original(overrides))
    for number in range(100):
        with pytest.raises((HydraException, ConfigError)) as caught:
            composer.unchecked([f"{key}={number}"])
        assert "unknown" in str(complaint(caught.value))
    assert len(loaded) == 1


def test_each_choice_of_groups_is_composed_once(composer: Composer, monkeypatch: pytest.MonkeyPatch):
    loaded: list[object] = []
    original = composer._load
    monkeypatch.setattr(composer, "_load", lambda overrides: loaded.append(overrides) or original(overrides))
    for net in ("model_a", "model_b"):
        for seed in range(20):
            composer.compose((f"model={net}", f"seed={seed}", "budget.epochs=3"))
    assert loaded == [("model=model_a",), ("model=model_b",)]


def test_two_cells_share_nothing_that_one_could_change(composer: Composer):
    one, other = composer.compose(("seed=1",)), composer.compose(("seed=2",))
    assert one.optimizer is not other.optimizer
    one.optimizer.drop_at.append("9/10")
    assert composer.compose(("seed=3",)).optimizer.drop_at == ["4/7", "5/7", "6/7"]


@pytest.mark.parametrize("overrides", [("seed=1", "runs='${data.name}-runs'"), ("data.root='${oc.env:HOME}'",)])
def test_interpolation_is_left_to_hydra(composer: Composer, overrides: tuple[str, ...]):
    config = composer.compose(overrides)
    assert "${" not in f"{config}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "there is no key optimizer.lrr"),
        ("optimizer.lr=high", "optimizer.lr: "),
        ("seed=1.5", "seed: "),
        ("precision=fp16", "one of bf16, fp32"),
        ("model=resnet", "there is no model=resnet"),
        ("budget.epochs=0", "budget.epochs must be 1 or more, got 0"),
    ],
)
def test_a_wrong_override_is_told_as_for_a_single_cell(
    composer: Composer, make_config: MakeConfig, override: str, message: str
):
    errors = (ConfigError, HydraException, OmegaConfBaseException)
    texts = []
    for compose in (lambda: composer.compose((override,)), lambda: make_config(override)):
        with pytest.raises(errors) as caught:
            compose()
        texts.append(complaint(caught.value))
    assert texts[0] == texts[1]
    assert message in str(texts[0])


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("seed=3", ["seed=3"]),
        ("seed=0,1", ["seed=0", "seed=1"]),
        ("seed=range(0,3)", ["seed=0", "seed=1", "seed=2"]),
        ("model=glob(model_*)", ["model=model_a", "model=model_b", "model=model_c"]),
        ("optimizer.drop_at=[1/2],[]", ["optimizer.drop_at=[1/2]", "optimizer.drop_at=[]"]),
        ("+model.kwargs.depth=1,2", ["+model.kwargs.depth=1", "+model.kwargs.depth=2"]),
    ],
)
def test_what_sweeps_is_expanded(composer: Composer, text: str, expanded: list[str]):
    assert composer.expand(text) == expanded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=range(0,3,0)", "seed=range(0,3,0) cannot be counted out"),
        ("seed=interval(0,1)", "seed=interval(0,1): an interval has no values to train one by one; legal: "),
        ("seed=range(0,1000000000000)", "seed=range(0,1000000000000) has more than 1,000,000 values"),
    ],
)
def test_what_cannot_be_counted_out_is_refused(composer: Composer, text: str, message: str):
    with pytest.raises(ConfigError) as caught:
        composer.expand(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model=glob(nothing*)", "model=glob(nothing*) gives no value: no option fits"),
        ("seed=glob(*)", "seed=glob(*) gives no value: glob is for groups, such as model, and seed is none"),
        ("seed=range(3,0)", "seed=range(3,0) gives no value: range(A,B) counts from A up to, but without, B"),
    ],
)
def test_a_sweep_over_nothing_is_not_called_excluded(composer: Composer, text: str, message: str):
    planner = Planner(composer, read_sweep=lambda name: pytest.fail(name))
    with pytest.raises(ConfigError) as caught:
        planner.plan([text], None)
    assert str(caught.value).startswith(message)


# What a user may type in one line, in any order and more than once; what is of one kind meets often.
_DRAWN = [
    kind.split()
    for kind in (
        """seed=3 seed=0,1 ++seed=5 ++seed=5,6 seed=${budget.epochs} +seed=1 ~seed seed=a seed=""",
        """optimizer.lr=0.2 optimizer.lr=0.1,0.3 ++optimizer.lr=0.1 optimizer={lr:0.3} optimizer={momentum:0.1}
        optimizer={lr:0.5},{lr:0.6} ++optimizer={lr:0.4,momentum:0.2} optimizer={lr:0.7,drop_at:[1/3]},{momentum:0.3}
        optimizer=sgd_paper optimizer={} ~optimizer optimizer.drop_at=[1/2],[] optimizer.drop_at.0=1/4
        optimizer={lr:${optimizer.momentum}} ~optimizer.lr +optimizer.name=adamw""",
        """model=model_a model=all_cnn_b,strided_cnn_a model.base=b model={base:a} model={width:0.5,class_relu:false}
        model.width=0.25 model={width:2},{width:3} ++model={base:b,width:4} model=nope""",
        """+model.kwargs.depth=1,2 ++model.kwargs.depth=3 +model.kwargs={depth:4} ++model.kwargs={depth:5,more:{x:1}}
        ~model.kwargs.depth model.kwargs.depth=6 +model.kwargs.more.x=2 ++model={kwargs:{depth:7}} model.kwargs={}
        model={family:custom,builder:a.b:c}""",
        """budget={epochs:1} budget=smoke budget.epochs=2 budget=quick,smoke tracker=none trainer={threads:1}
        +trainer={progress:false} trainer.threads=2 ~trainer +trainer.compile=true trainer.compile=false""",
    )
]


def _results(compose: Callable[..., Config], cells: Callable[[], Iterable[Sequence[str]]]) -> list[Config] | str:
    """Return the distinct configs in their order; "refused" if one cell cannot be, as then none trains."""
    found: list[Config] = []
    try:
        for overrides in cells():
            if (config := compose(*overrides)) not in found:
                found.append(config)
    except (ConfigError, HydraException, OmegaConfBaseException):
        return "refused"
    return found


def _split(arguments: Sequence[str]) -> list[list[str]]:
    """Return the cells of Hydra's own sweeper."""
    (batch,) = BasicSweeper.split_arguments([parsed(text) for text in arguments], max_batch_size=None)
    return batch


@pytest.mark.parametrize("seed", range(24))
def test_a_multirun_composes_what_single_runs_with_the_same_overrides_do(
    composer: Composer, make_config: MakeConfig, tmp_path: Path, seed: int
):
    drawn = random.Random(seed)
    arguments = drawn.choices(drawn.choice(_DRAWN), k=drawn.randint(2, 3)) + drawn.choices(
        [text for kind in _DRAWN for text in kind], k=1
    )
    drawn.shuffle(arguments)
    # Hydra's sweeper keeps one override of each spelling of a key, at the place of the first: where a spelling comes
    # twice, single runs of each override's values decide.
    each = [_split([text]) for text in arguments]
    singles = [[text for (text,) in parts] for parts in itertools.product(*each)]
    spellings = [parsed(text).get_key_element() for text in arguments]
    if len(set(spellings)) == len(spellings):
        assert _split(arguments) == singles
    runs = f"runs={tmp_path / 'runs'}"
    planner = Planner(composer, read_sweep=lambda name: pytest.fail(name))
    ours = _results(
        lambda *cell: composer.compose((runs, *cell)),
        lambda: [cell.overrides for cell in planner._combinations(arguments, None)],
    )
    assert ours == _results(make_config, lambda: singles), arguments
