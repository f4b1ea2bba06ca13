"""SampleEasinessLoss beside torch's cross-entropy and beside a slow reference; what weights of examples do."""

import copy
import itertools
import math
import pickle

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from lightning_easiness import SampleEasinessLoss
from lightning_easiness.losses import WeighsExamples
from tests.functional import loss_references as reference
from tests.functional.strategies import Reads
from tests.refusing import refused_call as refused

NUM_CLASSES = 4
CLASS_WEIGHT = [0.5, 2.0, 1.25, 3.0]
REDUCTIONS = ("mean", "sum", "none")
SHAPES = {
    "(N, K)": (6, NUM_CLASSES),
    "(K,)": (NUM_CLASSES,),
    "(N, K, d)": (3, NUM_CLASSES, 5),
    "(N, K, d, e)": (2, NUM_CLASSES, 3, 5),
}
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
with_and_without_sel = pytest.mark.parametrize("sel_weight", [0, 0.5])


def case(shape, ignore_index=-100, dtype=torch.float64, seed=0):
    """Logits and targets; where there are several, one target in five is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).mul(1.5)
    target_shape = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = torch.randint(NUM_CLASSES, target_shape, generator=generator)
    if target.numel() > 1:
        target.view(-1)[1::5] = ignore_index
    return logits, target


def class_weights(weighted=True, dtype=torch.float64):
    return torch.tensor(CLASS_WEIGHT, dtype=dtype) if weighted else None


def both(first, second, logits, target):
    """Values and gradients of two losses at the same logits."""
    ends = []
    for loss in (first, second):
        rows = logits.detach().clone().requires_grad_()
        value = loss(rows, target)
        # a sum would not tell apart the elements of a loss that is not reduced
        slope = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view(value.shape)
        (gradient,) = torch.autograd.grad(value, rows, slope)
        ends.append((value.detach(), gradient))
    return ends


def assert_same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


def rows_of(logits, target):
    """One row per position, in the order of a flattened target."""
    if logits.ndim == 1:
        return [logits.tolist()], [int(target)]
    return logits.movedim(1, -1).reshape(-1, logits.shape[1]).tolist(), target.reshape(-1).tolist()


def assert_is_total(value, logits, target, rel=1e-9, **options):
    """The value is the reference's, in the shape that its reduction has."""
    wanted = reference.total_loss(*rows_of(logits, target), **options)
    is_whole = options.get("reduction") == "none"
    assert value.shape == (target.shape if is_whole else ())
    assert value.reshape(-1).tolist() == pytest.approx(wanted if is_whole else [wanted], rel=rel)


every_option = pytest.mark.parametrize(
    ("shape", "weighted", "ignore_index", "label_smoothing", "reduction"),
    list(itertools.product(SHAPES, (False, True), (-100, 2, 255), (0.0, 0.3), REDUCTIONS)),
)


# ------------------------------------------------------------------------------------- beside cross-entropy


@every_option
def test_it_is_cross_entropy_to_the_bit_without_sel_and_else_with_weighted_sel(
    shape, weighted, ignore_index, label_smoothing, reduction
):
    logits, target = case(SHAPES[shape], ignore_index)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
    weight = class_weights(weighted)
    ours, plain = SampleEasinessLoss(0, weight=weight, **options), nn.CrossEntropyLoss(weight=weight, **options)
    assert_same(*both(ours, plain, logits, target))
    options |= {"sel_weight": 0.7, "sigma2": 1e-2, "floor": -5.0}
    value = SampleEasinessLoss(weight=weight, **options)(logits, target)
    assert_is_total(value, logits, target, weight=CLASS_WEIGHT if weighted else None, **options)


@every_shape
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_equal_finite_differences_of_the_reference(shape, weighted, reduction):
    options = {"sel_weight": 0.7, "sigma2": 1e-2, "floor": -30.0, "label_smoothing": 0.2, "reduction": reduction}
    logits, target = case(SHAPES[shape], seed=2)
    rows, labels = rows_of(logits, target)
    logits.requires_grad_()
    SampleEasinessLoss(weight=class_weights(weighted), **options)(logits, target).backward()
    gradient, _ = rows_of(logits.grad, target)
    options["weight"] = CLASS_WEIGHT if weighted else None
    for position, row in enumerate(rows):

        def total(row, position=position):
            return reference.total_loss([*rows[:position], row, *rows[position + 1 :]], labels, **options)

        assert gradient[position] == pytest.approx(reference.slopes(total, row), rel=1e-5, abs=1e-6)


def test_the_defaults_are_those_of_the_paper_and_only_the_first_three_are_given_by_position():
    logits, target = case((7, NUM_CLASSES))
    assert_is_total(SampleEasinessLoss()(logits, target), logits, target, sel_weight=0.1, sigma2=1e-4)
    by_position = SampleEasinessLoss(0.3, 1e-2, None)(logits, target)
    assert_is_total(by_position, logits, target, sel_weight=0.3, sigma2=1e-2, floor=None)
    with pytest.raises(TypeError, match="positional arguments"):
        SampleEasinessLoss(0.3, 1e-2, None, torch.ones(NUM_CLASSES))


@with_and_without_sel
@every_reduction
def test_without_a_counted_example_it_is_as_cross_entropy(sel_weight, reduction):
    ours, plain = SampleEasinessLoss(sel_weight, reduction=reduction), nn.CrossEntropyLoss(reduction=reduction)
    for shape in ((0, NUM_CLASSES), (0, NUM_CLASSES, 3), *SHAPES.values()):
        logits, target = case(shape)
        target = torch.full_like(target, -100)
        assert_same(ours(logits, target), plain(logits, target))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@every_shape
@every_reduction
def test_the_smaller_types(dtype, shape, reduction):
    logits, target = case(SHAPES[shape], dtype=dtype)
    ours, plain = SampleEasinessLoss(0, reduction=reduction), nn.CrossEntropyLoss(reduction=reduction)
    assert_same(*both(ours, plain, logits, target))
    options, rel = {"sel_weight": 0.5, "reduction": reduction}, max(1e-3, 4 * torch.finfo(dtype).eps)
    assert_is_total(SampleEasinessLoss(**options)(logits, target), logits, target, rel, **options)
    options["reduction"] = "sum"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = SampleEasinessLoss(**options)(logits, target)
    assert_is_total(inside, logits, target, max(0.02, rel), **options)


def test_a_masked_class_is_as_for_cross_entropy_and_leaves_value_and_gradient_finite():
    logits, target = torch.tensor([[0.3, -math.inf, 0.2, 0.1], [1.0, 0.0, 0.0, -math.inf]]), torch.tensor([0, 1])
    found, wanted = both(SampleEasinessLoss(sel_weight=0), nn.CrossEntropyLoss(), logits, target)
    assert_same(found, wanted)
    (value, gradient), _ = both(SampleEasinessLoss(), nn.CrossEntropyLoss(), logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()


# ------------------------------------------------------------------------------------------------- a module


def test_it_learns_nothing_and_keeps_and_moves_its_class_weights():
    loss = SampleEasinessLoss(weight=torch.tensor(CLASS_WEIGHT))
    assert list(loss.parameters()) == []
    other = SampleEasinessLoss(weight=torch.ones(NUM_CLASSES))
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.to(torch.float64).weight, class_weights())
    assert other.to("meta").weight.device.type == "meta"
    assert list(SampleEasinessLoss().state_dict()) == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
def test_a_copy_is_the_same(copied):
    loss = SampleEasinessLoss(0.4, 1e-3, None, weight=torch.tensor(CLASS_WEIGHT), label_smoothing=0.1)
    logits, target = case((6, NUM_CLASSES), dtype=torch.float32)
    assert torch.equal(copied(loss)(logits, target), loss(logits, target))


@with_and_without_sel
@every_shape
@every_reduction
def test_a_step_never_waits_for_its_device_and_leaves_its_inputs_alone(sel_weight, shape, reduction):
    """Also where targets are ignored and examples weighed."""
    logits, target = case(SHAPES[shape], dtype=torch.float32)
    given, before = (logits.clone(), target.clone()), torch.get_rng_state()
    loss = SampleEasinessLoss(sel_weight, weight=torch.tensor(CLASS_WEIGHT), label_smoothing=0.1, reduction=reduction)
    if target.ndim:
        loss.sample_weight = torch.ones(len(target))
    logits.requires_grad_()
    with Reads():
        loss(logits, target).sum().backward()
    assert_same((logits.detach(), target), given)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_traced_graph_gives_the_same():
    loss = SampleEasinessLoss(0.5, 1e-2, weight=torch.tensor(CLASS_WEIGHT), label_smoothing=0.1)
    logits, target = case((6, NUM_CLASSES), dtype=torch.float32)
    found, wanted = both(torch.compile(loss, backend="aot_eager"), loss, logits, target)
    torch.testing.assert_close(found, wanted)


def test_it_is_made_from_yaml():
    parser = ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "loss")
    settings = {"sel_weight": 0.4, "floor": None, "reduction": "none", "ignore_index": 255}
    init_args = settings | {"weight": CLASS_WEIGHT}
    config = {"loss": {"class_path": "lightning_easiness.SampleEasinessLoss", "init_args": init_args}}
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # which later versions rename
    loss = instantiate(parser.parse_object(config)).loss
    assert type(loss) is SampleEasinessLoss
    logits, target = case((6, NUM_CLASSES), 255)
    assert_is_total(loss.double()(logits, target), logits, target, weight=CLASS_WEIGHT, **settings)


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("sel_weight", value) for value in (-0.1, math.nan, math.inf, None)),
        *(("sigma2", value) for value in (0.0, -1e-4, math.nan, math.inf)),
        *(("floor", value) for value in (0.0, 1e-7, 2.0, math.nan)),
        *(("label_smoothing", value) for value in (-0.1, 1.1, math.nan, None)),
        ("reduction", "average"),
        ("reduction", None),
        ("weight", torch.ones(2, 2)),
        ("weight", torch.ones(3, dtype=torch.int64)),
    ],
)
def test_bad_options_are_refused_where_they_are_given(name, value):
    refused(ValueError, lambda: SampleEasinessLoss(**{name: value}), name)


def test_what_was_called_otherwise_is_refused_with_its_new_name():
    assert refused(TypeError, lambda: SampleEasinessLoss(weight=0.1), "weight") == (
        "The `weight` of SampleEasinessLoss must be the weights of the classes, as in torch.nn.CrossEntropyLoss; got "
        "0.1: give the weight of SEL as `sel_weight`."
    )
    message = refused(TypeError, lambda: SampleEasinessLoss(torch.ones(NUM_CLASSES)), "sel_weight")
    assert message.endswith("give class weights as `weight`.")
    with pytest.raises(TypeError, match=r"^SampleEasinessLoss has no `class_weight` any more: give `weight`, as"):
        SampleEasinessLoss(class_weight=torch.ones(NUM_CLASSES))


SHAPES_REFUSED = [((3, 4), 2), ((3, 4, 5), 3), ((3, 4, 5), (3, 4)), ((4,), 2), ((3, 4), (3, 1)), ((), ())]


@with_and_without_sel
def test_bad_batches_are_refused(sel_weight):
    loss = SampleEasinessLoss(sel_weight)
    logits = torch.rand(6, NUM_CLASSES)
    assert "argmax" in refused(TypeError, lambda: loss(logits, logits.softmax(1)), "target")
    for outside in (NUM_CLASSES, -1, 255):
        with pytest.raises(ValueError, match=rf"^The `target` of SampleEasinessLoss must be in .* got {outside}:"):
            loss(torch.rand(3, NUM_CLASSES), torch.tensor([0, outside, -100]))
    for shape, target in SHAPES_REFUSED:
        with pytest.raises(ValueError, match=r"^The `target` of SampleEasinessLoss must have the shape"):
            loss(torch.rand(shape), torch.zeros(target, dtype=torch.int64))
    if sel_weight:
        with pytest.raises(ValueError, match=r"`logits` of .* K >= 2"):
            loss(torch.rand(3, 1), torch.zeros(3, dtype=torch.int64))
    loss = SampleEasinessLoss(sel_weight, weight=torch.ones(NUM_CLASSES + 1))
    refused(ValueError, lambda: loss(logits, torch.zeros(6, dtype=torch.int64)), "weight")


# ---------------------------------------------------------------------------------- weights of examples


class Weighs(WeighsExamples, nn.Module):
    """A module that does nothing else."""


class Plain(WeighsExamples):
    """No module at all."""


def weights(size=6, seed=5):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


@pytest.mark.parametrize("kind", [Weighs, Plain])
@pytest.mark.parametrize("method", ["weighted", "weighted_mean"])
def test_the_mixin_weighs_by_the_batch_at_hand_and_marks_that_it_did(kind, method):
    losses, module = torch.arange(6, dtype=torch.float64) + 1, kind()
    call = getattr(module, method)
    assert module.sample_weight_used is False
    plain = losses if method == "weighted" else losses.mean()
    assert torch.equal(call(losses), plain)
    module.sample_weight = weights()
    products = losses * weights()
    assert_same(call(losses), products if method == "weighted" else products.sum() / 6)  # not by the sum of weights
    assert module.sample_weight_used is True
    assert (kind().sample_weight, kind().sample_weight_used) == (None, False), "no other's"
    if kind is Weighs:
        assert module.state_dict() == {}
        assert torch.equal(getattr(module.eval(), method)(losses), plain), "in training alone"
        module.train()
    module.sample_weight = None
    assert torch.equal(call(losses), plain)


@with_and_without_sel
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [False, True])
@every_reduction
@pytest.mark.parametrize("shape", ["(N, K)", "(N, K, d)"])
def test_the_loss_weighs_examples(sel_weight, weighted, ignore, reduction, shape):
    """The mean's divisor holds class weights, as without weights of examples; all positions of one weigh alike."""
    logits, target = case(SHAPES[shape])
    target = target if ignore else target.clamp(min=0)
    options = {"sel_weight": sel_weight, "sigma2": 1e-2, "label_smoothing": 0.2, "reduction": reduction}
    loss = SampleEasinessLoss(weight=class_weights(weighted), **options)
    unweighted = loss(logits, target)
    loss.sample_weight = torch.ones(len(target))
    torch.testing.assert_close(loss(logits, target), unweighted)
    loss.sample_weight = weights(len(target))
    positions = target.numel() // len(target)
    of_positions = [value for value in loss.sample_weight.tolist() for _ in range(positions)]
    wanted = options | {"weight": CLASS_WEIGHT if weighted else None, "sample_weight": of_positions}
    assert_is_total(loss(logits, target), logits, target, **wanted)
    assert loss.sample_weight_used is True
    loss.eval()
    torch.testing.assert_close(loss(logits, target), unweighted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sizes", [(5, 6), (7, 6), (1, 6), (6, 1)], ids=str)
def test_weights_that_do_not_fit_the_batch_are_refused(sizes):
    """One weight, or one loss, would broadcast."""
    num_weights, num_losses = sizes
    module, loss = Weighs(), SampleEasinessLoss()
    module.sample_weight = loss.sample_weight = torch.ones(num_weights)
    for call in (
        lambda: module.weighted(torch.ones(num_losses)),
        lambda: module.weighted_mean(torch.ones(num_losses)),
        lambda: loss(*case((num_losses, NUM_CLASSES))),
    ):
        message = refused(ValueError, call, "sample_weight")
        assert str(num_weights) in message
        assert str(num_losses) in message
    refused(ValueError, lambda: module.weighted_mean(torch.ones(())), "losses")
