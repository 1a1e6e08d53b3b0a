from strive.sweeps.factors import independent

ADAM = {"opt.name": "adam", "opt.momentum": None, "name": "adam run"}
SGD = {"opt.name": "sgd", "opt.momentum": 0.9, "name": "sgd run"}
CELLS = [{"lr": lr, "opt.lr": lr, "seed": seed, **opt} for lr in (1, 2) for seed in (0, 1) for opt in (ADAM, SGD)]
KEYS = ["opt.lr", "opt.name", "opt.momentum", "name", "lr", "seed"]


def test_what_follows_from_a_swept_key_or_another_is_no_factor():
    assert independent(KEYS, CELLS, first=["lr", "seed"]) == ["opt.name", "lr", "seed"]


def test_swept_keys_that_move_together_are_both_kept():
    cells = [{"a": 1, "b": 1}, {"a": 2, "b": 2}]
    assert independent(["a", "b"], cells, first=["a", "b"]) == ["a", "b"]
    assert independent(["a", "b"], cells) == ["a"]


def test_one_and_true_are_two_values():
    assert independent(["a"], [{"a": 1}, {"a": True}]) == ["a"]
