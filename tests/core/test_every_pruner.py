"""The conformance kit of pruners: what every one in the table promises, whatever its rule."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from core.methods import PrunerChoice
from core.pruning import PRUNERS
from core.pruning.cuts import Surgery
from core.pruning.mask import density, kept
from core.pruning.pruner import Moment, Pruner
from core.pruning.scope import Group, prunable
from core.rounding import count
from core.surgery import recorded
from tests.core.harness import EPOCHS, Run, digest, moment, network, one_group, two_groups

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Change, Mask

FIXED = ("random", "snip", "grasp", "synflow", "rigl", "set")
GRADUAL = ("gmp", "seven", "screening", "lnpt")
CHOICES: dict[str, dict[str, object]] = {
    "none": {"name": "none"},
    **{f"random-{a}": {"name": "random", "allocation": a} for a in ("erk", "uniform", "global")},
    **{f"snip-{a}": {"name": "snip", "allocation": a} for a in ("erk", "uniform", "global")},
    **{f"gmp-{a}": {"name": "gmp", "allocation": a, "update_every": 2} for a in ("erk", "uniform", "global")},
    **{f"grasp-{a}": {"name": "grasp", "allocation": a} for a in ("erk", "uniform", "global")},
    **{f"synflow-{a}": {"name": "synflow", "allocation": a, "rounds": 10} for a in ("erk", "uniform", "global")},
    **{f"{m}-{a}": {"name": m, "allocation": a, "update_every": 2} for m in GRADUAL[1:] for a in ("erk", "global")},
    "gmp-interval": {"name": "gmp", "update_every": {"per_interval": 3}},
    "gmp-too-rare": {"name": "gmp", "update_every": 1000},
    "gmp-late": {"name": "gmp", "start": 0.5, "end": 1.0, "update_every": 1},
    **{f"rigl-{a}": {"name": "rigl", "allocation": a, "update_every": 2} for a in ("erk", "uniform", "global")},
    "rigl-interval": {"name": "rigl", "update_every": {"per_interval": 3}},
    "set": {"name": "set", "update_every": 2},
    "probmask": {"name": "probmask"},
    **{
        f"channels-{i}": {"name": "channels", "importance": i, "allocation": a, "update_every": 2}
        for i, a in (("l1", "uniform"), ("group_norm", "global"), ("fpgm", "global"))
    },
    **{f"rows-{a}": {"name": "rows", "allocation": a, "update_every": 2} for a in ("global", "uniform")},
    "lowrank": {"name": "lowrank", "start": 0.25},
}
RATES = [0.0, 0.1, 0.35, 0.5, 0.9, 0.99]
ADAPTER: TypeAdapter[Pruner] = TypeAdapter(PrunerChoice)

SHRINKING = [choice for choice, fields in CHOICES.items() if PRUNERS[str(fields["name"])]().shrinks]

every = pytest.mark.parametrize("choice", CHOICES)
every_masking = pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in SHRINKING])
every_shrinking = pytest.mark.parametrize("choice", SHRINKING)


def make(choice: str) -> Pruner:
    return ADAPTER.validate_python(CHOICES[choice])


def expected(pruner: Pruner, group: Group, mask: Mask) -> int:
    sizes = [mask[layer].numel() for layer in group.layers]
    if pruner.name == "none":
        return sum(sizes)
    if getattr(pruner, "allocation", None) == "uniform":
        return sum(count(group.density, size) for size in sizes)
    return count(group.density, sum(sizes))


def check_exact(pruner: Pruner, groups: tuple[Group, ...], mask: Mask) -> None:
    if pruner.shrinks:
        check_near(pruner, groups, mask)
        return
    for group in groups:
        assert sum(int(mask[layer].sum()) for layer in group.layers) == expected(pruner, group, mask)


def check_near(pruner: Pruner, groups: tuple[Group, ...], mask: Mask) -> None:
    """All that is left is live, and as much as the structure allows: no channel more or less would be nearer."""
    assert all(bool(keep.all()) for keep in mask.values())
    total, left = sum(weight.numel() for weight in prunable(network()).values()), sum(kept(mask).values())
    if pruner.name == "lowrank":
        # Linear(36, 10) of 360 weights, the largest, at some rank.
        assert left in {total, *(total - 360 + 46 * rank for rank in range(1, 8))}
    else:
        # A convolution's channel takes 18 + 9 x 10 weights along, a hidden unit 36 + 3.
        assert abs(left - count(groups[0].density, total)) <= 108 / 2


def test_every_pruner_is_tried() -> None:
    assert {str(choice["name"]) for choice in CHOICES.values()} == set(PRUNERS)


def reachable(pruner: Pruner) -> float:
    """The highest rate to try: a pruner that shrinks the network leaves a channel or unit of every layer."""
    return {"weights": 1.0, "channels": 0.9, "hidden units": 0.75, "ranks": 1.0}[pruner.removes]


@every
@pytest.mark.parametrize("rate", RATES)
def test_the_final_density_is_exact(choice: str, rate: float) -> None:
    pruner, model = make(choice), network()
    rate = min(rate, reachable(pruner))
    groups = one_group(model, rate)
    *_, (_, mask) = Run(pruner, groups, model)
    check_exact(pruner, groups, mask)


@every
def test_the_target_is_met_with_one_step_per_epoch(choice: str) -> None:
    pruner, model = make(choice), network()
    groups = one_group(model, min(0.9, reachable(pruner)))
    *_, (_, mask) = Run(pruner, groups, model, steps=1)
    check_exact(pruner, groups, mask)


@every_masking
@pytest.mark.parametrize(("rate", "fc_rate"), [(0.5, 0.9), (0.0, 0.9), (0.99, 0.0)])
def test_groups_are_pruned_to_their_own_rates(choice: str, rate: float, fc_rate: float) -> None:
    pruner, model = make(choice), network()
    groups = two_groups(model, rate, fc_rate)
    *_, (_, mask) = Run(pruner, groups, model)
    check_exact(pruner, groups, mask)


@every
def test_masks_name_every_layer_in_scope_and_are_boolean(choice: str) -> None:
    model = network()
    for _, mask in Run(make(choice), one_group(model, min(0.9, reachable(make(choice)))), model):
        assert {name: tuple(keep.shape) for name, keep in mask.items()} == {
            name: tuple(weight.shape) for name, weight in prunable(model).items()
        }
        assert all(keep.dtype == torch.bool for keep in mask.values())


@every
def test_the_first_mask_is_sparse_or_dense_as_the_method_says(choice: str) -> None:
    pruner, model = make(choice), network()
    groups = one_group(model, min(0.9, reachable(pruner)))
    _, mask = next(iter(Run(pruner, groups, model)))
    if pruner.name in FIXED:
        check_exact(pruner, groups, mask)
    else:
        assert density(mask) == 1


@every
def test_counts_stay_or_fall(choice: str) -> None:
    """Drop-and-grow methods never change a layer's count; a gradual method never regrows a weight."""
    pruner, model = make(choice), network()
    masks = [mask for _, mask in Run(pruner, one_group(model, min(0.9, reachable(pruner))), model)]
    for old, new in itertools.pairwise(masks):
        if pruner.name in FIXED:
            assert kept(old) == kept(new)
        if pruner.name in GRADUAL:
            assert all(bool((old[layer] | ~keep).all()) for layer, keep in new.items())
        assert density(new) <= density(old)


@every_shrinking
def test_a_network_that_shrinks_never_grows_and_never_loses_a_whole_layer(choice: str) -> None:
    pruner, model = make(choice), network()
    sizes = []
    for _, mask in Run(pruner, one_group(model, reachable(pruner)), model):
        sizes.append(sum(kept(mask).values()))
        assert all(min(weight.shape) >= 1 for weight in prunable(model).values())
        assert len(model(torch.zeros(2, 2, 5, 5))[0]) == 3
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("choice", [choice for choice in SHRINKING if choice != "lowrank"])
def test_a_rate_out_of_reach_is_refused_in_a_sentence(choice: str) -> None:
    model = network()
    with pytest.raises(ValueError, match=r"of the weights of the 3 layers in scope, .* not 0\.99: lower the rate"):
        next(iter(Run(make(choice), one_group(model, 0.99), model)))


@every
def test_the_same_run_twice_is_the_same(choice: str) -> None:
    assert fingerprint(choice) == fingerprint(choice)


def test_another_process_draws_the_same(fingerprints: dict[str, str]) -> None:
    assert {choice: fingerprint(choice) for choice in CHOICES} == fingerprints


@pytest.mark.parametrize("choice", ["random-erk", "set"])
def test_the_seed_matters(choice: str) -> None:
    assert fingerprint(choice) != fingerprint(choice, seed=1)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_precisions(choice: str, dtype: torch.dtype) -> None:
    pruner, model = make(choice), network(dtype)
    groups = one_group(model, min(0.9, reachable(pruner)))
    run = Run(pruner, groups, model)
    *_, (_, mask) = run
    check_exact(pruner, groups, mask)
    assert all(tensor.dtype == dtype for tensor in run.state.values() if tensor.ndim and tensor.is_floating_point())


@every
def test_nothing_that_is_shown_changes(choice: str) -> None:
    pruner, model = make(choice), network()
    run = Run(pruner, one_group(model, min(0.9, reachable(pruner))), model)
    _ = next(iter(run))
    torch.manual_seed(3)
    before = digest([*model.state_dict().values(), *run.mask.values(), torch.get_rng_state()])
    view = run.view(next_update(pruner), {name: weight.detach() + 1 for name, weight in run.weights.items()})
    first, second = pruner.init(view), pruner.init(view)
    stepped = pruner.step(first[0], view), pruner.step(second[0], view)
    assert before == digest([*model.state_dict().values(), *run.mask.values(), torch.get_rng_state()])
    for (state, mask), (again, mask_again) in ((first, second), stepped):
        assert digest(state.values()) == digest(again.values())
        assert digest(tensors_of(mask)) == digest(tensors_of(mask_again))


@every_masking
def test_weights_outside_the_groups_are_left_alone(choice: str) -> None:
    model = network()
    name = "5.weight"
    *_, (_, mask) = Run(make(choice), (Group((name,), 0.9),), model)
    assert set(mask) == {name}


@pytest.mark.parametrize("name", PRUNERS)
def test_the_table_describes_itself(name: str) -> None:
    cls = PRUNERS[name]
    assert cls().name == name
    assert cls.summary
    assert cls.source or name == "none"
    assert cls().reads() <= {"select_every", "warmup_epochs", "schedule"}
    assert hash(cls()) == hash(cls())
    with pytest.raises(ValidationError, match="speed"):
        cls(speed=1)  # type: ignore[call-arg]


def test_what_a_clock_reads() -> None:
    assert make("rigl-erk").reads() == frozenset()
    assert make("rigl-interval").reads() == {"select_every"}
    assert make("gmp-global").reads() == {"warmup_epochs", "select_every", "schedule"}
    assert make("gmp-late").reads() == frozenset()


@pytest.mark.gpu
@every
def test_cuda_equals_cpu(choice: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pruner = make(choice)
    # Only the rule is compared, not the arithmetic of a training run: same weights, same gradients.
    states = []
    for device in ("cpu", "cuda"):
        model = network(torch.float64).to(device)
        run = Run(pruner, one_group(model, min(0.9, reachable(pruner))), model)
        _, mask = next(iter(run))
        now = next_update(pruner)
        grads = {name: weight.detach().roll(1) for name, weight in run.weights.items()}
        _, new = pruner.step(run.state, run.view(now, grads))
        states.append(digest([*mask.values(), *tensors_of(new)]))
    assert states[0] == states[1]


def test_importing_the_tables_loads_no_torch() -> None:
    code = "import sys, core.pruning, core.coresets, core.preservation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def fingerprint(choice: str, seed: int = 0) -> str:
    model = network()
    run = Run(make(choice), one_group(model, min(0.9, reachable(make(choice)))), model, seed=seed)
    masks = [keep for _, mask in run for keep in mask.values()]
    return digest([*masks, *run.state.values(), *model.state_dict().values()])


def tensors_of(change: Change | None) -> list[Tensor]:
    return list((recorded(change) if isinstance(change, Surgery) else change or {}).values())


def next_update(pruner: Pruner) -> Moment:
    epoch = EPOCHS if pruner.name in (*GRADUAL, "probmask") or pruner.shrinks else 3
    return moment(epoch, 2 if pruner.name == "probmask" else 0)


@pytest.fixture(scope="module")
def fingerprints() -> dict[str, str]:
    """The fingerprints as another process finds them."""
    code = "import json, tests.core.test_every_pruner as t; print(json.dumps({c: t.fingerprint(c) for c in t.CHOICES}))"
    return in_another_process(code)


def in_another_process(code: str) -> dict[str, str]:
    setup = f"import sys, torch; torch.set_num_threads(1); sys.path.insert(0, {str(Path(__file__).parents[2])!r}); "
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=True)
    result: dict[str, str] = json.loads(done.stdout)
    return result
