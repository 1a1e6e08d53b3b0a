import pytest
import roofline

from allcnn.networks import spec
from allcnn.networks.facts import check_network

# Counted by another program, layer by layer from the tables 1 and 2 of the paper: MFLOP of an image forward, GFLOP and
# MB of an image in a step, and seconds of 350 epochs at 790 TFLOP/s and 4.3 TB/s.
COUNTED = {
    "model_a": (277.4, 0.817, 2.19, 23.4),
    "strided_cnn_a": (89.3, 0.264, 0.86, 7.1),
    "convpool_cnn_a": (617.1, 1.837, 4.34, 46.3),
    "all_cnn_a": (362.3, 1.072, 2.87, 27.0),
    "model_b": (315.1, 0.931, 4.26, 31.9),
    "strided_cnn_b": (286.8, 0.846, 2.79, 25.9),
    "convpool_cnn_b": (654.8, 1.950, 6.42, 54.7),
    "all_cnn_b": (400.0, 1.185, 4.94, 35.5),
    "model_c": (456.7, 1.365, 4.28, 36.0),
    "strided_cnn_c": (201.9, 0.600, 2.80, 16.8),
    "convpool_cnn_c": (796.4, 2.384, 6.43, 58.9),
    "all_cnn_c": (541.6, 1.619, 4.96, 39.7),
}
STEPS = 350 * 391


def step_cost(name: str) -> roofline.StepCost:
    return roofline.step_cost(spec.layers(roofline.NETS[name], 10))


def test_the_twelve_nets_are_the_papers():
    assert set(roofline.NETS) == set(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_flops_bytes_and_seconds_agree_with_another_count(name: str):
    step = step_cost(name)
    counted = (
        step.forward_flops / step.batch / 1e6,
        step.flops / step.batch / 1e9,
        step.bytes / step.batch / 1e6,
        STEPS * step.seconds(peak=790e12, bandwidth=4.3e12),
    )
    assert counted == pytest.approx(COUNTED[name], rel=0.02)


@pytest.mark.parametrize("name", COUNTED)
def test_forward_flops_and_parameters_are_those_of_the_nets_facts(name: str):
    facts = check_network(roofline.NETS[name], num_classes=10, image_size=32)
    step = step_cost(name)
    assert (step.forward_flops / step.batch, step.parameters) == (facts.flops, facts.parameters)


def test_without_the_gradient_by_the_images_a_step_is_less_than_three_forward_passes():
    step = step_cost("all_cnn_c")
    first = 2 * 128 * 32**2 * 96 * 3 * 3**2  # multiply-adds of conv1, twice
    assert step.flops == 3 * step.forward_flops - first


def test_a_step_takes_no_less_than_its_arithmetic_and_no_less_than_its_bytes():
    for name in COUNTED:
        step = step_cost(name)
        assert step.seconds(2e14, 1e12) >= max(step.flops / 2e14, step.bytes / 1e12)
        assert step.seconds(2e14, 1e30) == pytest.approx(step.flops / 2e14)
        assert step.seconds(1e30, 1e12) == pytest.approx(step.bytes / 1e12)


def test_strided_cnn_b_rewritten_strides_its_5x5_convolutions():
    layers = spec.layers(roofline.NETS["strided_cnn_b"], 10)
    step = roofline.step_cost(roofline.rewritten(layers))
    assert step.flops / step.batch == pytest.approx(0.293e9, rel=0.02)
    assert STEPS * step.seconds(790e12, 4.3e12) == pytest.approx(9.3, rel=0.02)
    assert step.parameters == roofline.step_cost(layers).parameters
    side = [after for layer, after in zip(layers, spec.sides(layers, 32), strict=True) if isinstance(layer, spec.Conv)]
    assert side[:4] == [32, 16, 16, 8]  # as written; the 5x5 of the rewritten net end at 16 and 8
    assert spec.sides(roofline.rewritten(layers), 32)[1:3] == [16, 16]


def test_no_other_net_is_rewritten():
    for name in set(COUNTED) - {"strided_cnn_b"}:
        layers = spec.layers(roofline.NETS[name], 10)
        assert roofline.rewritten(layers) == layers


def test_the_table_has_a_row_for_each_net_and_the_hours_of_the_grid(capsys: pytest.CaptureFixture[str]):
    roofline.main([])
    printed = capsys.readouterr().out
    assert [line.split(" | ")[0].strip("| ") for line in printed.splitlines() if line.startswith("| ")][1:] == [
        *COUNTED,
        "strided_cnn_b, rewritten",
    ]
    assert "each trained 40 times: 4.48 h" in printed


def test_other_ceilings_can_be_given(capsys: pytest.CaptureFixture[str]):
    roofline.main(["--peak", "312e12", "--bandwidth", "1.5e12"])
    assert "312 TFLOP/s and 1.5 TB/s" in capsys.readouterr().out
