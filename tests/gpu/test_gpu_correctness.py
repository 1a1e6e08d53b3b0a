import gpu_correctness as correctness
import pytest
import roofline
import torch
from gpu_arms import Setup, random_splits
from support import needs_gpu

from allcnn.config import DataConfig
from allcnn.training import enter_execution

pytestmark = [
    pytest.mark.gpu,
    needs_gpu,
    # An error out of a warning of torch's own compiler would be a reason not to compile.
    pytest.mark.filterwarnings("default"),
]
NETS = tuple(roofline.NETS)


@pytest.fixture(scope="module")
def setup() -> Setup:
    device = torch.device("cuda")
    made = Setup(device=device, splits=random_splits(5 * roofline.BATCH + 80, device), data=DataConfig())
    enter_execution(made.execution())  # before anything else: cuBLAS reads its environment once
    return made


def assert_passes(check: correctness.Check, net: str, setup: Setup, compiled: bool = False) -> None:
    finding = check(net, setup, compiled)
    assert finding.passed, finding.note


@pytest.mark.parametrize("net", NETS)
def test_a_cuda_graph_ends_in_the_bits_of_eager_steps(setup: Setup, net: str):
    assert_passes(correctness.graph_is_eager, net, setup)


@pytest.mark.parametrize("net", NETS)
def test_cells_side_by_side_end_in_the_bits_of_each_alone(setup: Setup, net: str):
    assert_passes(correctness.packed_is_lone, net, setup)


@pytest.mark.parametrize("net", ["all_cnn_c", "model_c"])
def test_a_cell_goes_on_in_another_pack_bit_for_bit(setup: Setup, net: str):
    assert_passes(correctness.resume_in_another_pack, net, setup)


@pytest.mark.parametrize("net", NETS)
def test_a_cell_trained_again_ends_in_the_same_bits(setup: Setup, net: str):
    assert_passes(correctness.rerun_is_the_same, net, setup)


@pytest.mark.parametrize("net", NETS)
def test_what_a_step_computes_is_the_net_as_written(setup: Setup, net: str):
    assert_passes(correctness.net_is_as_written, net, setup)


@pytest.mark.parametrize("net", ["all_cnn_c", "model_b"])
def test_a_gpu_learns_what_the_processor_learns(setup: Setup, net: str):
    assert_passes(correctness.gpu_is_cpu, net, setup)


@pytest.mark.slow
def test_a_compiled_net_learns_the_same(setup: Setup):
    assert_passes(correctness.compiled_learns_the_same, "all_cnn_c", setup, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [correctness.graph_is_eager, correctness.packed_is_lone, correctness.resume_in_another_pack]
)
def test_a_compiled_net_keeps_its_bits(setup: Setup, check: correctness.Check):
    assert_passes(check, "all_cnn_c", setup, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["all_cnn_c", "model_c"])
def test_a_compiled_cell_trained_again_ends_in_the_same_bits(setup: Setup, net: str):
    assert_passes(correctness.rerun_is_the_same, net, setup, compiled=True)
