"""SampleEasinessLoss beside torch's cross-entropy and beside a slow reference; what weights of examples do."""

import copy
import inspect
import itertools
import math
import pickle
import re

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

import lightning_easiness
from lightning_easiness import SampleEasinessLoss
from lightning_easiness.losses import WeighsExamples
from tests.functional import loss_references as reference
from tests.functional.test_sample_easiness_loss import Reads

NUM_CLASSES = 4
CLASS_WEIGHT = [0.5, 2.0, 1.25, 3.0]
REDUCTIONS = ("mean", "sum", "none")
SHAPES = {"(N, K)": (6, NUM_CLASSES), "(K,)": (NUM_CLASSES,), "(N, K, d)": (3, NUM_CLASSES, 5)}


def case(shape, ignore_index=-100, dtype=torch.float64, seed=0):
    """Logits and targets; where there are several, one target in five is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).mul(1.5)
    target_shape = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = torch.randint(NUM_CLASSES, target_shape, generator=generator)
    if target.numel() > 1:
        target.view(-1)[1::5] = ignore_index
    return logits, target


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


def rows_of(logits, target):
    """One row a position, in the order of a flattened target."""
    if logits.ndim == 1:
        return [logits.tolist()], [int(target)]
    return logits.movedim(1, -1).reshape(-1, logits.shape[1]).tolist(), target.reshape(-1).tolist()


every_option = pytest.mark.parametrize(
    ("shape", "weighted", "ignore_index", "label_smoothing", "reduction"),
    [
        pytest.param(*options, id="-".join(map(str, options)))
        for options in itertools.product(SHAPES, (False, True), (-100, 2, 255), (0.0, 0.3), REDUCTIONS)
    ],
)


# ------------------------------------------------------------------------------------- beside cross-entropy


@every_option
def test_at_weight_0_it_is_cross_entropy(shape, weighted, ignore_index, label_smoothing, reduction):
    """To the bit, in value and gradient."""
    class_weight = torch.tensor(CLASS_WEIGHT, dtype=torch.float64) if weighted else None
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
    ours = SampleEasinessLoss(weight=0, class_weight=class_weight, **options)
    plain = nn.CrossEntropyLoss(weight=class_weight, **options)
    found, wanted = both(ours, plain, *case(SHAPES[shape], ignore_index))
    assert found[0].shape == wanted[0].shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@every_option
def test_else_it_is_cross_entropy_and_weight_times_the_sample_easiness_loss(
    shape, weighted, ignore_index, label_smoothing, reduction
):
    class_weight = torch.tensor(CLASS_WEIGHT, dtype=torch.float64) if weighted else None
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
    loss = SampleEasinessLoss(weight=0.7, sigma2=1e-2, floor=-5.0, class_weight=class_weight, **options)
    logits, target = case(SHAPES[shape], ignore_index)
    value = loss(logits, target)
    assert value.shape == (target.shape if reduction == "none" else ())
    wanted = reference.total_loss(
        *rows_of(logits, target),
        weight=0.7,
        sigma2=1e-2,
        floor=-5.0,
        class_weight=CLASS_WEIGHT if weighted else None,
        **options,
    )
    assert value.reshape(-1).tolist() == pytest.approx(wanted if reduction == "none" else [wanted], rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_equal_finite_differences_of_the_reference(shape, weighted, reduction):
    class_weight = CLASS_WEIGHT if weighted else None
    options = {"weight": 0.7, "sigma2": 1e-2, "floor": -30.0, "label_smoothing": 0.2, "reduction": reduction}
    loss = SampleEasinessLoss(class_weight=torch.tensor(class_weight).double() if weighted else None, **options)
    logits, target = case(SHAPES[shape], seed=2)
    rows, labels = rows_of(logits, target)
    logits.requires_grad_()
    loss(logits, target).backward()
    gradient, _ = rows_of(logits.grad, target)
    for position, row in enumerate(rows):
        wanted = reference.slopes(
            lambda row: reference.total_loss(
                [*rows[:position], row, *rows[position + 1 :]],  # noqa: B023
                labels,
                class_weight=class_weight,
                **options,
            ),
            row,
        )
        assert gradient[position] == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_the_defaults_are_those_of_the_paper():
    logits, target = case((7, NUM_CLASSES))
    loss = SampleEasinessLoss()
    wanted = reference.total_loss(*rows_of(logits, target), weight=0.1, sigma2=1e-4, floor=math.log(1e-7))
    assert loss(logits, target).item() == pytest.approx(wanted, rel=1e-9)
    by_position = SampleEasinessLoss(0.3, 1e-2, -4.0)(logits, target).item()
    assert by_position == pytest.approx(
        reference.total_loss(*rows_of(logits, target), weight=0.3, sigma2=1e-2, floor=-4.0), rel=1e-9
    )


def test_no_floor():
    logits, target = torch.tensor([[0.0, 5.0]], dtype=torch.float64), torch.tensor([0])
    found = SampleEasinessLoss(weight=1.0, floor=None)(logits, target).item()
    assert found == pytest.approx(reference.total_loss(logits.tolist(), [0], weight=1.0, floor=None), rel=1e-9)
    assert found > 1000 > 30 > SampleEasinessLoss(weight=1.0)(logits, target).item()


def test_pictures_with_a_class_a_pixel():
    logits, target = case((2, NUM_CLASSES, 3, 5))
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "class_weight": torch.tensor(CLASS_WEIGHT).double()}
        found = SampleEasinessLoss(weight=0.5, **options)(logits, target)
        wanted = reference.total_loss(
            *rows_of(logits, target), weight=0.5, class_weight=CLASS_WEIGHT, reduction=reduction
        )
        assert found.shape == (target.shape if reduction == "none" else ())
        assert found.reshape(-1).tolist() == pytest.approx(wanted if reduction == "none" else [wanted], rel=1e-9)


@pytest.mark.parametrize("weight", [0, 0.1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(0, NUM_CLASSES), (0, NUM_CLASSES, 3)])
def test_no_examples_are_as_for_cross_entropy(weight, reduction, shape):
    logits, target = torch.empty(shape, requires_grad=True), torch.empty(shape[:1] + shape[2:], dtype=torch.int64)
    found = SampleEasinessLoss(weight=weight, reduction=reduction)(logits, target)
    wanted = nn.CrossEntropyLoss(reduction=reduction)(logits, target)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("weight", [0, 0.1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_when_all_is_ignored_it_is_as_for_cross_entropy(weight, reduction, shape):
    logits, target = case(SHAPES[shape])
    target = torch.full_like(target, -100)
    found = SampleEasinessLoss(weight=weight, reduction=reduction)(logits, target)
    wanted = nn.CrossEntropyLoss(reduction=reduction)(logits, target)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


def test_what_is_ignored_has_no_gradient():
    logits, target = case((6, NUM_CLASSES))
    logits.requires_grad_()
    SampleEasinessLoss(weight=1.0, sigma2=1e-2)(logits, target).backward()
    assert ((logits.grad != 0).any(1) == (target != -100)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_smaller_types(dtype, shape, reduction):
    logits, target = case(SHAPES[shape], dtype=dtype)
    ours, plain = SampleEasinessLoss(weight=0, reduction=reduction), nn.CrossEntropyLoss(reduction=reduction)
    found, wanted = both(ours, plain, logits, target)
    assert found[0].dtype == wanted[0].dtype
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    value = SampleEasinessLoss(weight=0.5, reduction=reduction)(logits, target)
    wanted = reference.total_loss(*rows_of(logits, target), weight=0.5, reduction=reduction)
    close = pytest.approx(wanted if reduction == "none" else [wanted], rel=max(1e-3, 4 * torch.finfo(dtype).eps))
    assert value.reshape(-1).tolist() == close


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_huge_logits(dtype):
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]], dtype=dtype, requires_grad=True)
    value = SampleEasinessLoss()(logits, torch.tensor([0, 0]))
    value.backward()
    assert value.item() == pytest.approx((2e4 + 0.1 * 2 * math.log(1e7)) / 2, rel=0.01)
    assert logits.grad.isfinite().all()


def test_masked_classes():
    """At weight 0 a logit of minus infinity is as for cross-entropy; else value and gradient stay finite."""
    logits, target = torch.tensor([[0.3, -math.inf, 0.2, 0.1], [1.0, 0.0, 0.0, -math.inf]]), torch.tensor([0, 1])
    found, wanted = both(SampleEasinessLoss(weight=0), nn.CrossEntropyLoss(), logits, target)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    (value, gradient), _ = both(SampleEasinessLoss(), nn.CrossEntropyLoss(), logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_autocast():
    logits, target = case((6, NUM_CLASSES), dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SampleEasinessLoss(weight=0.5)(logits, target)
    wanted = reference.total_loss(*rows_of(logits, target), weight=0.5)
    assert value.item() == pytest.approx(wanted, rel=0.02)


# ------------------------------------------------------------------------------------------------- a module


def test_it_learns_nothing_and_moves_its_class_weights():
    loss = SampleEasinessLoss(class_weight=torch.tensor(CLASS_WEIGHT))
    assert isinstance(loss, nn.Module)
    assert isinstance(loss, WeighsExamples)
    assert list(loss.parameters()) == []
    assert [name for name, _ in loss.named_buffers()] == ["class_weight"]
    moved = loss.to(torch.float64)
    assert moved.class_weight.dtype == torch.float64
    assert moved.to("meta").class_weight.device.type == "meta"
    assert SampleEasinessLoss().class_weight is None
    assert list(SampleEasinessLoss().state_dict()) == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
def test_a_copy_is_the_same(copied):
    loss = SampleEasinessLoss(0.4, 1e-3, None, class_weight=torch.tensor(CLASS_WEIGHT), label_smoothing=0.1)
    logits, target = case((6, NUM_CLASSES), dtype=torch.float32)
    assert torch.equal(copied(loss)(logits, target), loss(logits, target))


def test_the_state_of_another_can_be_loaded():
    loss = SampleEasinessLoss(class_weight=torch.tensor(CLASS_WEIGHT))
    other = SampleEasinessLoss(class_weight=torch.ones(NUM_CLASSES))
    other.load_state_dict(loss.state_dict())
    SampleEasinessLoss().load_state_dict(SampleEasinessLoss(weight=0.5).state_dict())


def test_its_inputs_and_the_global_random_stream_are_left_as_they_were():
    logits, target = case((3, NUM_CLASSES, 5))
    given, before = (logits.clone(), target.clone()), torch.get_rng_state()
    SampleEasinessLoss(weight=0.5)(logits, target)
    assert torch.equal(logits, given[0])
    assert torch.equal(target, given[1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("weight", [0, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nothing_is_read_back(weight, shape, reduction):
    """Also where targets are ignored and examples weighed: a step never waits for its device."""
    logits, target = case(SHAPES[shape], dtype=torch.float32)
    options = {"class_weight": torch.tensor(CLASS_WEIGHT), "label_smoothing": 0.1, "reduction": reduction}
    loss = SampleEasinessLoss(weight, **options)
    if target.ndim:
        loss.sample_weight = torch.ones(len(target))
    logits.requires_grad_()
    with Reads():
        loss(logits, target).sum().backward()


def test_a_traced_graph_gives_the_same():
    loss = SampleEasinessLoss(0.5, 1e-2, class_weight=torch.tensor(CLASS_WEIGHT), label_smoothing=0.1)
    logits, target = case((6, NUM_CLASSES), dtype=torch.float32)
    found, wanted = both(torch.compile(loss, backend="aot_eager"), loss, logits, target)
    torch.testing.assert_close(found, wanted)


def test_yaml():
    parser = ArgumentParser()
    parser.add_subclass_arguments(nn.Module, "loss")
    config = parser.parse_object(
        {
            "loss": {
                "class_path": "lightning_easiness.SampleEasinessLoss",
                "init_args": {"weight": 0.4, "floor": None, "reduction": "none", "ignore_index": 255},
            }
        }
    )
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # which later versions rename
    loss = instantiate(config).loss
    assert type(loss) is SampleEasinessLoss
    logits, target = case((6, NUM_CLASSES), 255)
    wanted = reference.total_loss(*rows_of(logits, target), weight=0.4, floor=None, reduction="none", ignore_index=255)
    assert loss(logits, target).tolist() == pytest.approx(wanted, rel=1e-9)


def test_the_arguments_that_stay():
    parameters = inspect.signature(SampleEasinessLoss).parameters
    assert list(parameters)[:3] == ["weight", "sigma2", "floor"]
    keyword_only = {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    assert keyword_only == {"class_weight", "ignore_index", "label_smoothing", "reduction"}
    assert "SampleEasinessLoss" in lightning_easiness.__all__


# ------------------------------------------------------------------------------------------ bad input


def refused(error, call, name):
    """The message: one sentence with the argument, and with a way out."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert re.match(rf"The `{name}` of \w+ ", message), message
    assert message.endswith("."), message
    return message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("weight", value) for value in (-0.1, math.nan, math.inf)),
        *(("sigma2", value) for value in (0.0, -1e-4, math.nan, math.inf)),
        *(("floor", value) for value in (0.0, 1e-7, 2.0, math.nan)),
        *(("label_smoothing", value) for value in (-0.1, 1.1, math.nan)),
        ("reduction", "average"),
        ("reduction", None),
        ("class_weight", torch.ones(2, 2)),
    ],
)
def test_bad_options_are_refused_where_they_are_given(name, value):
    message = refused((ValueError, TypeError), lambda: SampleEasinessLoss(**{name: value}), name)
    assert "got " in message


def test_class_weights_given_as_cross_entropy_takes_them():
    """nn.CrossEntropyLoss calls them `weight`; here that is the weight of the sample easiness loss."""
    message = refused((ValueError, TypeError), lambda: SampleEasinessLoss(weight=torch.ones(NUM_CLASSES)), "weight")
    assert "class_weight" in message


def test_class_weights_for_another_number_of_classes():
    loss = SampleEasinessLoss(class_weight=torch.ones(NUM_CLASSES + 1))
    refused(ValueError, lambda: loss(*case((6, NUM_CLASSES), dtype=torch.float32)), "class_weight")


def test_soft_targets():
    logits, _ = case((6, NUM_CLASSES))
    for weight in (0, 0.1):
        loss = SampleEasinessLoss(weight=weight)
        message = refused(TypeError, lambda: loss(logits, logits.softmax(1)), "target")  # noqa: B023
        assert "argmax" in message or "CrossEntropyLoss" in message


@pytest.mark.parametrize("weight", [0, 0.1])
@pytest.mark.parametrize("outside", [NUM_CLASSES, -1, 255])
def test_targets_out_of_range(weight, outside):
    """At weight 0 the error is torch's."""
    with pytest.raises((ValueError, IndexError), match=f"(?i)target.*{outside}"):
        SampleEasinessLoss(weight=weight)(torch.rand(3, NUM_CLASSES), torch.tensor([0, outside, -100]))


@pytest.mark.parametrize(
    ("logits", "target"),
    [((3, 4), (2,)), ((3, 4, 5), (3,)), ((3, 4, 5), (3, 4)), ((4,), (2,)), ((3, 4), (3, 1)), ((), ()), ((3, 1), (3,))],
)
def test_shapes_that_do_not_fit(logits, target):
    with pytest.raises(ValueError, match=r"`(logits|target)` of"):
        SampleEasinessLoss()(torch.rand(logits), torch.zeros(target, dtype=torch.int64))


# ---------------------------------------------------------------------------------- weights of examples


class Weighs(WeighsExamples, nn.Module):
    """A module that does nothing else."""


def weights(size=6, seed=5):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def test_the_mixin_weighs_by_the_batch_at_hand():
    losses, given = torch.arange(6, dtype=torch.float64) + 1, weights()
    module = Weighs()
    assert module.sample_weight is None
    assert module.sample_weight_used is False
    assert torch.equal(module.weighted(losses), losses)
    assert module.weighted_mean(losses).item() == pytest.approx(3.5)
    module.sample_weight = given
    products = [loss * weight for loss, weight in zip(losses.tolist(), given.tolist(), strict=True)]
    assert module.weighted(losses).tolist() == pytest.approx(products)
    mean = module.weighted_mean(losses)
    assert mean.shape == ()
    assert mean.item() == pytest.approx(math.fsum(products) / 6), "not divided by the sum of weights"
    assert module.sample_weight_used is True
    module.sample_weight = None
    assert module.weighted_mean(losses).item() == pytest.approx(3.5)


@pytest.mark.parametrize("method", ["weighted", "weighted_mean"])
def test_to_read_weights_through_leaves_a_mark(method):
    module = Weighs()
    module.sample_weight = weights()
    assert module.sample_weight_used is False
    getattr(module, method)(torch.ones(6, dtype=torch.float64))
    assert module.sample_weight_used is True
    assert Weighs().sample_weight_used is False, "no other module's"


def test_one_modules_weights_are_not_anothers():
    first, second = Weighs(), Weighs()
    first.sample_weight = weights()
    assert second.sample_weight is None
    assert WeighsExamples.sample_weight is None


def test_the_mixin_needs_no_module():
    class Plain(WeighsExamples):
        pass

    plain = Plain()
    assert plain.weighted_mean(torch.tensor([1.0, 3.0])).item() == 2
    plain.sample_weight = torch.tensor([0.0, 4.0])
    assert plain.weighted_mean(torch.tensor([1.0, 3.0])).item() == 6


def test_weights_are_no_state():
    module = Weighs()
    module.sample_weight = weights()
    assert module.state_dict() == {}
    assert list(module.parameters()) == []


def test_weights_are_ignored_in_eval():
    losses = torch.arange(6, dtype=torch.float64)
    module = Weighs()
    module.sample_weight = weights()
    module.eval()
    assert torch.equal(module.weighted(losses), losses)
    assert module.weighted_mean(losses).item() == 2.5
    module.train()
    assert module.weighted_mean(losses).item() != 2.5


def test_gradients_carry_the_weights():
    losses = torch.ones(6, dtype=torch.float64, requires_grad=True)
    module = Weighs()
    module.sample_weight = weights()
    module.weighted_mean(losses).backward()
    assert losses.grad.tolist() == pytest.approx((weights() / 6).tolist())


def subsets(size):
    return [[index for index in range(size) if number >> index & 1] for number in range(2**size)]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_drawn_examples_of_weight_1_over_their_chance_stand_for_all(share):
    """Examples 0 and 1 always stay, each other one with chance r and then weighs 1 / r; every outcome is looked at."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    wanted = torch.zeros(4, dtype=torch.float64)
    expected = torch.zeros(4, dtype=torch.float64)

    def ends(kept, given):
        slope = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
        losses = (points[kept] @ slope).exp()
        module = Weighs()
        module.sample_weight = given
        total = module.weighted_mean(losses) * len(kept)
        (gradient,) = torch.autograd.grad(total, slope)
        return torch.cat([total.detach()[None], gradient])

    wanted += ends(list(range(6)), None)
    for drawn in subsets(4):
        chance = share ** len(drawn) * (1 - share) ** (4 - len(drawn))
        kept = [0, 1, *(2 + index for index in drawn)]
        given = torch.tensor([1.0, 1.0] + [1 / share] * len(drawn), dtype=torch.float64)
        expected += chance * ends(kept, given)
    assert expected.tolist() == pytest.approx(wanted.tolist(), rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_drawn_number_of_examples_stands_for_all_through_the_loss(count):
    """Every set of `count` of 5 examples is as probable as another; each drawn one weighs 5 / count."""
    logits, target = case((5, NUM_CLASSES), seed=3)
    target = target.clamp(min=0)
    loss = SampleEasinessLoss(weight=0.5, sigma2=1e-2)
    whole = loss(logits, target).item() * 5
    totals = []
    for kept in itertools.combinations(range(5), count):
        loss.sample_weight = torch.full((count,), 5 / count, dtype=torch.float64)
        totals.append(loss(logits[list(kept)], target[list(kept)]).item() * count)
    assert math.fsum(totals) / len(totals) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("weight", [0, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", ["(N, K)", "(N, K, d)"])
def test_the_loss_weighs_examples(weight, weighted, ignore, reduction, shape):
    """The mean's divisor holds class weights, as without weights of examples; all positions of one weigh alike."""
    logits, target = case(SHAPES[shape])
    target = target if ignore else target.clamp(min=0)
    given = weights(len(target))
    class_weight = CLASS_WEIGHT if weighted else None
    options = {"weight": weight, "sigma2": 1e-2, "label_smoothing": 0.2, "reduction": reduction}
    loss = SampleEasinessLoss(class_weight=torch.tensor(class_weight).double() if weighted else None, **options)
    loss.sample_weight = given
    value = loss(logits, target)
    rows, labels = rows_of(logits, target)
    positions = len(rows) // len(target)
    wanted = reference.total_loss(
        rows,
        labels,
        class_weight=class_weight,
        sample_weight=[value for value in given.tolist() for _ in range(positions)],
        **options,
    )
    assert value.reshape(-1).tolist() == pytest.approx(wanted if reduction == "none" else [wanted], rel=1e-9)
    assert loss.sample_weight_used is True
    unweighted = SampleEasinessLoss(class_weight=loss.class_weight, **options)(logits, target)
    loss.eval()
    torch.testing.assert_close(loss(logits, target), unweighted, rtol=1e-12, atol=0)


def test_weights_of_1_change_nothing():
    logits, target = case((6, NUM_CLASSES))
    loss = SampleEasinessLoss()
    unweighted = loss(logits, target)
    loss.sample_weight = torch.ones(6)
    torch.testing.assert_close(loss(logits, target), unweighted)


def test_weights_that_do_not_fit_the_batch():
    module, loss = Weighs(), SampleEasinessLoss()
    for size in (5, 7):
        module.sample_weight = loss.sample_weight = torch.ones(size)
        calls = [
            lambda: module.weighted(torch.ones(6)),
            lambda: module.weighted_mean(torch.ones(6)),
            lambda: loss(*case((6, NUM_CLASSES))),
        ]
        for call in calls:
            message = refused(ValueError, call, "(sample_weight|losses)")
            assert str(size) in message
            assert "6" in message


def test_a_batch_of_one_does_not_spread_one_weight():
    """Six losses and one weight would broadcast."""
    module = Weighs()
    module.sample_weight = torch.ones(1)
    refused(ValueError, lambda: module.weighted_mean(torch.ones(6)), "(sample_weight|losses)")
    module.sample_weight = torch.ones(6)
    refused(ValueError, lambda: module.weighted_mean(torch.ones(())), "(sample_weight|losses)")
    refused(ValueError, lambda: module.weighted_mean(torch.ones(1)), "(sample_weight|losses)")
