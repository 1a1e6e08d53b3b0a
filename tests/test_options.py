import re

import pytest

import hydra_plugins.strive  # noqa: F401 - its store knows the keys
from strive.config.error_text import complaint
from strive.errors import ConfigError
from strive.options import LocalOptions, SlurmOptions, SweeperOptions


def test_what_hydra_passes_becomes_options_of_their_types():
    given = {"_target_": "x", "checkpoint_minutes": "2.5", "retries": {"error": 1}, "resume_overrides": ["a=1"]}
    options = LocalOptions.of(given)
    assert options.checkpoint_minutes == 2.5
    assert (options.retries.error, options.retries.timeout) == (1, 20)
    assert options.resume_overrides == ["a=1"]
    assert SweeperOptions.of({"absent": {"model.dropout": 0}, "max_gpu_hours": None}).absent == {"model.dropout": 0}
    assert SlurmOptions.of({"additional_parameters": {"mail-type": "END", "requeue": False}}).additional_parameters == {
        "mail-type": "END", "requeue": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (LocalOptions, {"checkpoint_minutes": "abc"}, "hydra.launcher.checkpoint_minutes must be a number, got 'abc'"),
        (LocalOptions, {"fresh_process": 1.5}, "hydra.launcher.fresh_process must be true or false, got 1.5"),
        (LocalOptions, {"retries": {"error": "x"}}, "hydra.launcher.retries.error must be a whole number, got 'x'"),
        (LocalOptions, {"timeout_min": -1}, "hydra.launcher.timeout_min must be 0 (no limit) or more, got -1"),
        (LocalOptions, {"retries": 3}, "hydra.launcher.retries must be a mapping of timeout, preempted, node_fail"),
        (SweeperOptions, {"logistics": "lr"}, "hydra.sweeper.logistics must be a list of texts, got 'lr'"),
        (SweeperOptions, {"absent": 3}, "hydra.sweeper.absent must be a mapping, got 3"),
        (SweeperOptions, {"runs": None}, "hydra.sweeper.runs must be a text, got null"),
        (SweeperOptions, {"runs": ""}, "hydra.sweeper.runs must name a folder, got ''"),
        (SweeperOptions, {"check": ":function"}, "hydra.sweeper.check must be package.module:function"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_legal_ones(
    kind: type[LocalOptions | SweeperOptions], given: dict[str, object], message: str
):
    with pytest.raises(ConfigError, match=re.escape(message)):
        kind.of(given)


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        (SweeperOptions, "dryrun", "there is no key hydra.sweeper.dryrun\n  did you mean hydra.sweeper.dry_run"),
        (LocalOptions, "partition", "hydra.launcher.partition belongs to hydra/launcher=strive_slurm"),
        (SlurmOptions, "additional", "there is no key hydra.launcher.additional"),
    ],
)
def test_a_key_that_is_no_option_is_refused_with_those_that_are(
    kind: type[LocalOptions | SweeperOptions], key: str, message: str
):
    with pytest.raises(ConfigError) as refused:
        kind.of({key: 3})
    assert (complaint(refused.value) or "").startswith(message)
