"""Classification bandits: trials, splits and orders against the data themselves."""

import copy
import gzip
import os
import pickle
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits

import credit_envs
from credit_envs.datasets import load
from credit_envs.datasets.augmentation import Augmentation
from credit_envs.datasets.order import ImageOrder, split_indices
from tests.conftest import made_up_images

IMAGES = "ClassificationBandit-Images-v0"
DIGITS = "ClassificationBandit-Digits-v0"
MNIST = "ClassificationBandit-MNIST-v0"
every_id = pytest.mark.parametrize("env_id", credit_envs.environment_ids("ClassificationBandit"))
every_order = pytest.mark.parametrize("order", ["shuffled", "random", "sequential"])

DATA = made_up_images((3, 4, 5), classes=3, train=60, test=31)


def vector_env(num_envs: int, **kwargs: Any) -> Any:
    settings = {"data": DATA, "num_validation": 20} | kwargs
    return gymnasium.make_vec(IMAGES, num_envs=num_envs, **settings)


def scalar_env(**kwargs: Any) -> Any:
    settings = {"data": DATA, "num_validation": 20} | kwargs
    return gymnasium.make(IMAGES, **settings).unwrapped


def shown(env: Any, steps: int, seed: int | None = 0) -> np.ndarray:
    """Indices of the images that are shown at the reset and after each step, `(steps + 1, B)`."""
    _, info = env.reset(seed=seed)
    indices = [info["index"]]
    for _ in range(steps):
        indices.append(env.step(np.zeros(env.num_envs, dtype=np.int64))[-1]["index"])
    return np.array(indices)


# --- Trials


@every_id
def test_spaces(make_vec, env_id):
    env = make_vec(env_id, 2)
    space = env.single_observation_space
    assert (space.dtype, space.low.min(), space.high.max()) == (np.uint8, 0, 255)
    shapes = {"Digits": (1, 8, 8), "CIFAR10": (3, 32, 32), "CIFAR100": (3, 32, 32)}
    shapes["Images"] = (3, 4, 5)
    name = env_id.split("-")[1]
    assert space.shape == shapes.get(name, (1, 28, 28))
    classes = {"CIFAR100": 100, "Images": 3}.get(name, 10)
    assert env.single_action_space == gymnasium.spaces.Discrete(classes)
    assert env.observation_space.contains(env.reset(seed=0)[0])


@every_id
def test_reward_is_whether_the_answer_is_the_label(make_vec, env_id):
    env = make_vec(env_id, 7)
    x, y = env.dataset.x_train, env.dataset.y_train
    rng = np.random.default_rng(0)
    images, info = env.reset(seed=3)
    total = 0.0
    for _ in range(30):
        index = info["index"]
        np.testing.assert_array_equal(images, x[index])
        np.testing.assert_array_equal(info["label"], y[index])
        answers = rng.integers(0, env.dataset.num_classes, 7)
        answers[0] = y[index[0]]
        images, rewards, *_, info = env.step(answers)
        np.testing.assert_array_equal(rewards, np.where(answers == y[index], 1.0, 0.0))
        assert rewards.dtype == np.float32
        total += rewards.sum()
    assert 30 <= total < 7 * 30


def test_digits_against_their_source():
    """scikit-learn's digits, found by their pixels."""
    pixels, labels = load_digits(return_X_y=True)
    label_of = {
        tuple(np.floor(255 * v / 16).astype(int)): y for v, y in zip(pixels, labels, strict=True)
    }
    seen = 0
    for split, count in (("train", 1097), ("validation", 200), ("test", 500)):
        env = gymnasium.make_vec(DIGITS, num_envs=count, split=split)
        assert env.num_images == count
        images, info = env.reset(seed=0)
        assert images.max() == 255
        truth = np.array([label_of[tuple(image.ravel().tolist())] for image in images])
        np.testing.assert_array_equal(info["label"], truth)
        assert env.step(truth)[1].sum() == count
        seen += len(np.unique(images, axis=0))
    assert seen == len(label_of)


@pytest.mark.skipif(not os.environ.get("CREDIT_ENVS_DATA"), reason="needs the real MNIST files")
def test_mnist_against_its_files():
    folder = Path(os.environ["CREDIT_ENVS_DATA"]) / "MNIST" / "raw"
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    env = gymnasium.make_vec(MNIST, num_envs=10_000, split="test")
    images, info = env.reset()
    assert images.tobytes() == pixels
    assert info["dataset"].tolist() == ["MNIST"] * 10_000
    assert env.step(np.frombuffer(labels, np.uint8))[1].mean() == 1


# --- Scalar and vector, NumPy and tensors


@every_order
def test_scalar_is_a_vector_of_one(order):
    env, vector = scalar_env(order=order), vector_env(1, order=order)
    image, info = env.reset(seed=11)
    images, infos = vector.reset(seed=11)
    rng = np.random.default_rng(0)
    for _ in range(100):
        np.testing.assert_array_equal(image, images[0])
        assert info == {key: infos[key][0] for key in ("label", "index", "dataset")}
        answer = rng.integers(3)
        last, reward, terminated, truncated, info = env.step(answer)
        images, rewards, terminations, truncations, infos = vector.step(answer[None])
        assert (reward, terminated, truncated) == (rewards[0], True, False)
        assert (terminations[0], truncations[0]) == (True, False)
        np.testing.assert_array_equal(last, infos["final_obs"][0])
        assert info == {key: infos["final_info"][key][0] for key in ("label", "index")}
        image, info = env.reset()


@pytest.mark.parametrize("order", ["shuffled", "random"])
@pytest.mark.parametrize("num_envs", [3, 40, 41, 130])
def test_any_number_at_once_sees_the_sequence_of_one(order, num_envs):
    """Also over the ends of epochs, of 40 images here, which 3, 41 and 130 do not divide."""
    one = shown(vector_env(1, order=order), 400)[:, 0]
    many = shown(vector_env(num_envs, order=order), 400 // num_envs).ravel()[:400]
    np.testing.assert_array_equal(many, one[: len(many)])


@every_order
@pytest.mark.parametrize("num_envs", [1, 7])
def test_tensors_are_the_same_trials(order, num_envs):
    env, reference = vector_env(num_envs, order=order), vector_env(num_envs, order=order)
    images = env.reset_tensors(5)
    expected, _ = reference.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(30):
        np.testing.assert_array_equal(images, expected)
        assert (images.dtype, images.shape) == (torch.uint8, expected.shape)
        np.testing.assert_array_equal(env.label, env.dataset.y_train[env.index])
        answers = rng.integers(0, 3, num_envs)
        before = images
        step = env.step_tensors(torch.as_tensor(answers))
        np.testing.assert_array_equal(before, expected)  # Still there to learn from.
        images = step.observation
        expected, rewards, *_ = reference.step(answers)
        assert (step.reward.dtype, step.reward.tolist()) == (torch.float32, rewards.tolist())
    assert np.array_equal(env.reset_tensors(5), reference.reset(seed=5)[0])


def test_tensors_and_numpy_go_on_with_one_sequence():
    env = vector_env(4)
    with pytest.raises(RuntimeError, match=r"call reset_tensors\(\) before step_tensors\(\)"):
        env.step_tensors(torch.zeros(4, dtype=torch.long))
    env.reset(seed=1)
    index = [env.index]
    env.step_tensors(torch.zeros(4, dtype=torch.long))
    index.append(env.index)
    env.reset_tensors()
    index.append(env.index)
    env.step(np.zeros(4, dtype=np.int64))
    index.append(env.index)
    np.testing.assert_array_equal(index, shown(vector_env(4), 3, seed=1))


@pytest.mark.parametrize("shape", [(1,), (3,), (4, 1), ()])
def test_answers_in_tensors_of_another_shape(shape):
    env = vector_env(4)
    env.reset_tensors(0)
    with pytest.raises(ValueError, match=rf"shape {re.escape(str(shape))}; make it \(4,\)"):
        env.step_tensors(torch.zeros(shape, dtype=torch.long))


# --- Gymnasium's conventions


def test_same_step_autoreset_is_gymnasiums():
    vector = vector_env(1)
    sync = SyncVectorEnv([scalar_env], autoreset_mode=AutoresetMode.SAME_STEP)
    ours, theirs = vector.reset(seed=21), sync.reset(seed=21)
    for t in range(50):
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert_same_info(ours[-1], theirs[-1])
        if t:
            for a, b in zip(ours[1:4], theirs[1:4], strict=True):
                np.testing.assert_array_equal(a, b)
            assert ours[2].all()
            assert not ours[3].any()
        ours, theirs = vector.step(np.array([t % 3])), sync.step(np.array([t % 3]))


def assert_same_info(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if isinstance(value, dict):
            assert_same_info(value, theirs[key])
        else:
            np.testing.assert_array_equal(np.stack(value), np.stack(theirs[key]))


def test_last_observation_and_info_are_of_the_answered_images():
    env = vector_env(6)
    _, before = env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(np.zeros(6, dtype=int))
    assert terminated.all()
    assert not truncated.any()
    assert info["final_obs"].shape == (6, 3, 4, 5)
    assert not info["final_obs"].any()
    for key in ("label", "index"):
        np.testing.assert_array_equal(info["final_info"][key], before[key])
    assert not np.array_equal(info["index"], before["index"])
    for key in ("_final_obs", "_final_info", "_label", "_index", "_dataset"):
        assert info[key].tolist() == [True] * 6


def test_what_is_returned_cannot_change_what_follows():
    env, twin = vector_env(5), vector_env(5)
    answers = np.zeros(5, dtype=np.int64)
    returned: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    results = [env.reset(seed=0)] + [env.step(answers) for _ in range(10)]
    for result in results:
        for array in result[:-1]:
            assert not any(np.shares_memory(array, other) for other in returned)
            returned.append(array)
            kept.append(array.copy())
        for key in ("label", "index", "_label", "final_obs", "_final_obs"):
            if key in result[-1]:
                with pytest.raises(ValueError, match="read-only"):
                    result[-1][key][0] = 0
    for array, before in zip(returned, kept, strict=True):
        np.testing.assert_array_equal(array, before)
        array.fill(1)
    twin.reset(seed=0)
    for _ in range(10):
        twin.step(answers)
    for a, b in zip(env.step(answers)[:2], twin.step(answers)[:2], strict=True):
        np.testing.assert_array_equal(a, b)


# --- Seeds


@every_order
def test_seeds(order):
    def begins(seed: Any) -> np.ndarray:
        return shown(vector_env(3, order=order), 20, seed)

    np.testing.assert_array_equal(begins(4), begins(4))
    np.testing.assert_array_equal(begins(4), begins([4, 5, 6]))
    assert np.array_equal(begins(4), begins(5)) == (order == "sequential")
    assert np.array_equal(begins(None), begins(None)) == (order == "sequential")


@every_order
def test_reset_without_a_seed_goes_on(order):
    env, other = vector_env(3, order=order), vector_env(3, order=order)
    env.reset(seed=0)
    for indices in shown(other, 30)[1:]:
        np.testing.assert_array_equal(env.reset()[1]["index"], indices)
    env.reset(seed=[None, 1, 2])
    assert not np.array_equal(env.index, shown(other, 0)[0])
    env.reset(seed=0)
    np.testing.assert_array_equal(env.index, shown(other, 0)[0])


# --- Splits and orders


@pytest.mark.parametrize("num_envs", [1, 7, 40, 90])
def test_an_epoch_has_every_image_once(num_envs):
    env = vector_env(num_envs)
    assert env.num_images == 40
    epochs = shown(env, 400 // num_envs).ravel()[:400].reshape(-1, 40)
    train = split_indices(env.dataset, "train", 20)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), train)
    assert len(np.unique(epochs, axis=0)) == len(epochs), "each in an order of its own"


def test_random_is_with_replacement():
    counts = np.bincount(shown(vector_env(10, order="random"), 399).ravel(), minlength=60)
    train = split_indices(vector_env(1).dataset, "train", 20)
    assert np.flatnonzero(counts).tolist() == train.tolist()
    # 4,000 draws of 40 images: chi-square with 39 degrees of freedom, beyond 80 once in 10,000.
    assert ((counts[train] - 100) ** 2 / 100).sum() < 80
    first = shown(vector_env(40, order="random"), 0)
    assert len(np.unique(first)) < 35


@every_order
@pytest.mark.parametrize("num_validation", [0, 1, 20, 59])
def test_validation_images_are_never_shown_in_training(order, num_validation):
    settings = {"order": order, "num_validation": num_validation}
    train = set(shown(vector_env(1, **settings), 600).ravel().tolist())
    assert len(train) == vector_env(1, **settings).num_images == 60 - num_validation
    if num_validation:
        validation = set(shown(vector_env(1, split="validation", **settings), 600).ravel().tolist())
        assert len(validation) == num_validation
        assert train | validation == set(range(60))


def test_validation_images_are_always_the_same():
    dataset = load("Digits")
    few, many = (split_indices(dataset, "validation", n) for n in (200, 1000))
    assert set(few) < set(many)
    # Whatever the numpy, so that results of different times can be compared.
    assert few[:5].tolist() == [2, 12, 21, 25, 26]


def test_default_orders():
    def ascends(split: str) -> bool:
        indices = shown(vector_env(1, split=split), 15).ravel()
        return bool((np.diff(indices) > 0).all())

    assert [ascends(split) for split in ("train", "validation", "test")] == [False, True, True]


@pytest.mark.parametrize("num_envs", [1, 2, 3, 7, 30, 31])
def test_sequential_shares(num_envs):
    """Place i goes through its own images, as many as `evaluate_policy` asks of it."""
    indices = shown(vector_env(num_envs, split="test"), 70)
    seen = []
    for i in range(num_envs):
        target = (31 + i) // num_envs
        share = indices[:target, i].tolist()
        assert indices[:, i].tolist() == (share * 71)[:71]
        seen += share
    assert seen == list(range(31))


def test_order_never_hands_out_what_changes():
    order = ImageOrder(np.arange(10), "shuffled", 4)
    order.begin(0)
    batches = [order.next_batch() for _ in range(20)]
    copies = [batch.copy() for batch in batches]
    order.begin(1)
    for _ in range(20):
        order.next_batch()
    for batch, before in zip(batches, copies, strict=True):
        np.testing.assert_array_equal(batch, before)


# --- Pictures


def test_pictures():
    env, vector = (
        scalar_env(render_mode="rgb_array"),
        vector_env(2, order="sequential", render_mode="rgb_array"),
    )
    for each in (env, vector):
        with pytest.raises(RuntimeError, match=r"call reset\(\) before render\(\)"):
            each.render()
    env.reset(seed=0)
    first = env.render()
    assert (first.dtype, first.shape) == (np.uint8, (320, 720, 3))
    np.testing.assert_array_equal(first, env.render())
    env.step(env.vector.label[0])
    right = env.render()
    env.reset(seed=0)
    env.step((env.vector.label[0] + 1) % 3)
    wrong = env.render()
    assert not any(np.array_equal(*two) for two in combinations([first, right, wrong], 2))
    vector.reset(seed=0)
    before = vector.render()
    right, wrong = vector.label[0], (vector.label[1] + 1) % 3
    vector.step(np.array([right, wrong]))
    after = vector.render()
    assert len(before) == len(after) == 2
    assert not any(np.array_equal(*two) for two in combinations([*before, *after], 2))


def test_picture_shows_the_image():
    """Of the first image: the answered one after a step, in its colours and the right way up."""
    data = (np.zeros((2, 3, 2, 2), np.uint8), np.array([0, 1])) * 2
    data[0][:, 0, 0, 0] = 255  # red, top left
    data[0][:, 2, 1, 1] = 255  # blue, bottom right
    env = gymnasium.make(IMAGES, data=data, num_validation=0, render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.step(0)
    frame = env.render().astype(int)
    red = np.argwhere((frame == [255, 0, 0]).all(-1)).mean(0)
    blue = np.argwhere((frame == [0, 0, 255]).all(-1)).mean(0)
    assert (red < blue).all()


def test_grey_picture_and_no_picture(make):
    env = make(MNIST, render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert (frame == frame[..., :1]).all()
    env = make(MNIST)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.unwrapped.render() is None


# --- Misuse


@every_id
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "tset"}, "split='tset' is not one of 'train', 'validation', 'test'; did you"),
        ({"split": None}, "split=None is not one of 'train', 'validation', 'test'"),
        ({"order": "shuffle"}, "order='shuffle' is not one of .*; did you mean 'shuffled'"),
        ({"num_validation": -1}, "num_validation=-1 must be a whole number of at least 0"),
        ({"num_validation": 0.1}, "num_validation=0.1 must be a whole number of at least 0"),
        ({"num_validation": 10**6}, r"leaves none of the \d+ training images of \w+ .* at most \d"),
        ({"split": "validation", "num_validation": 0}, "no images with num_validation=0; hold out"),
        ({"augment": "yes"}, "augment='yes' is not one of True, False"),
        ({"render_mode": "human"}, "render_mode='human' is not one of 'rgb_array'"),
    ],
)
def test_settings(make, make_vec, env_id, settings, message):
    with pytest.raises(ValueError, match=message):
        make_vec(env_id, 2, **settings)
    if "render_mode" not in settings:  # which Gymnasium refuses by itself
        with pytest.raises(ValueError, match=message):
            make(env_id, **settings)


def test_unknown_keyword(make, make_vec):
    for env in (make, lambda *args, **kwargs: make_vec(*args, 2, **kwargs)):
        with pytest.raises(TypeError, match="argument 'num_val'; did you mean 'num_validation'"):
            env(DIGITS, num_val=3)


def test_more_at_once_than_a_sequence_has():
    with pytest.raises(ValueError, match=r"num_envs=32 .* than the 31 images .* at most 31"):
        vector_env(32, split="test")
    vector_env(32, split="test", order="shuffled").reset()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r"needs data=\(x_train, y_train, x_test, y_test\)"),
        ((1, 2), r"data=\(x_train, y_train, x_test, y_test\)"),
        (tuple(a / 2 if i % 2 == 0 else a for i, a in enumerate(DATA)), "make the images uint8"),
        (made_up_images((12,)), r"shape \(12,\) .* make the images uint8 of shape \(N, H, W\) or"),
    ],
)
def test_data(data, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(IMAGES, data=data)


def test_built_in_data_take_no_arrays():
    with pytest.raises(ValueError, match="only it takes data"):
        gymnasium.make(DIGITS, data=DATA)


def test_missing_data(tmp_path):
    message = r"CIFAR100 is not complete in .*: cifar-100-binary/train.bin is missing. Download .*"
    with pytest.raises(FileNotFoundError, match=message):
        gymnasium.make("ClassificationBandit-CIFAR100-v0", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([0, 3], "the answer 3 is not a class; make answers whole numbers from 0 to 2"),
        ([-1, 0], "the answer -1 is not a class"),
        (np.array([0, 200], dtype=np.uint8), "the answer 200 is not a class"),
        (np.array([0, 2**64 - 1], dtype=np.uint64), "is not a class"),
        ([0.0, np.nan], "have dtype float64; make them whole numbers from 0 to 2"),
        ([True, False], "have dtype bool; make them whole numbers"),
        (["0", "1"], "make them whole numbers"),
        ([0], r"shape \(1,\); make it \(2,\)"),
        ([[0, 1]], r"shape \(1, 2\); make it \(2,\)"),
        (0, r"shape \(\); make it \(2,\)"),
    ],
)
def test_answers(answers, message):
    env = vector_env(2)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(answers)
    _, info = env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(answers)
    assert env.step(info["label"])[1].tolist() == [1, 1], "the images stay"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (3, "the answer 3 is not a class; make answers whole numbers from 0 to 2"),
        (-1, "the answer -1 is not a class"),
        (1.0, "have dtype float64"),
        ([1], re.escape("shape (1,); make it ()")),
    ],
)
def test_answer_of_the_scalar_environment(answer, message):
    env = scalar_env()
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(answer)
    _, info = env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(answer)
    assert env.step(info["label"])[1] == 1.0
    with pytest.raises(RuntimeError, match=r"this trial is over: call reset\(\)"):
        env.step(0)


def test_resets():
    env = vector_env(2)
    with pytest.raises(ValueError, match="3 seeds for 2 environments; give one seed, or one for"):
        env.reset(seed=[1, 2, 3])
    for seed in (-1, [0, -1], [0, 2**63], [0.5, 1.0], ["a", "b"], "a", True, 1.5):
        with pytest.raises(ValueError, match=r"seed"):
            env.reset(seed=seed)
    for each in (env, scalar_env()):
        with pytest.raises(ValueError, match="reset takes no options here; leave out 'index'"):
            each.reset(options={"index": 3})
    with pytest.raises(ValueError, match=r"a whole number from 0 to 2\*\*63 - 1"):
        env.reset_tensors(-1)


# --- Augmentation


def test_augmentation_maps_places_as_it_says():
    """Against scipy's affine transformation of the same draws, in the middle of the image."""
    images = np.random.default_rng(0).integers(0, 256, (20, 2, 12, 14), dtype=np.uint8)
    augmentation = Augmentation()
    augmentation.begin(3)
    changed = augmentation(images)
    drawn = np.random.default_rng([3, 1]).random((20, 4), dtype=np.float32)
    height, width = 12, 14
    for image, result, (zoom, reflect, right, down) in zip(images, changed, drawn, strict=True):
        factor = 1 / (1 + 0.1 * (2 * zoom - 1))
        sign = -1.0 if reflect < 0.5 else 1.0
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        shift = np.array([(2 * down - 1) * 0.1 * height, (2 * right - 1) * 0.1 * width])
        matrix = np.diag([factor, sign * factor])
        for before, after in zip(image, result, strict=True):
            expected = affine_transform(
                before.astype(float),
                matrix,
                centre - matrix @ centre + shift,
                order=1,
                mode="nearest",
            )
            assert np.abs(expected - after).max() <= 1.01
    assert {bool(r < 0.5) for r in drawn[:, 1]} == {True, False}


def test_augmented_images_depend_on_the_seed_alone():
    one, three = (vector_env(n, augment=True, order="shuffled") for n in (1, 3))
    many, _ = three.reset(seed=5)
    again, _ = three.reset(seed=5)
    np.testing.assert_array_equal(many, again)
    single = [one.reset(seed=5)[0][0]]
    single += [one.step(np.zeros(1, np.int64))[0][0] for _ in range(5)]
    later = three.step(np.zeros(3, np.int64))[0]
    np.testing.assert_array_equal(np.concatenate([again, later]), np.stack(single))
    plain, _ = vector_env(3, order="shuffled").reset(seed=5)
    assert not np.array_equal(many, plain)
    np.testing.assert_array_equal(three.reset_tensors(5).numpy(), many)


def test_only_training_images_are_augmented():
    for split in ("validation", "test"):
        augmented, plain = (vector_env(2, augment=a, split=split) for a in (True, False))
        np.testing.assert_array_equal(augmented.reset(seed=1)[0], plain.reset(seed=1)[0])


def test_augmentation_goes_on_where_it_was():
    env, other = (vector_env(3, augment=True) for _ in range(2))
    env.reset(seed=1)
    state = pickle.loads(pickle.dumps(env.get_state()))
    other.reset(seed=2)
    other.set_state(state)
    answers = np.zeros(3, np.int64)
    np.testing.assert_array_equal(env.step(answers)[0], other.step(answers)[0])


def test_an_environment_that_was_taken_up_goes_on_in_tensors_and_pictures():
    env, other = (vector_env(3, render_mode="rgb_array") for _ in range(2))
    env.reset(seed=1)
    other.set_state(pickle.loads(pickle.dumps(env.get_state())))
    np.testing.assert_array_equal(other.render(), env.render())
    answers = torch.zeros(3, dtype=torch.int64)
    for ours, theirs in zip(env.step_tensors(answers), other.step_tensors(answers), strict=True):
        assert torch.equal(ours, theirs)
    np.testing.assert_array_equal(other.render(), env.render())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": True}, "augmented=False, and this one has augmented=True"),
        ({"order": "random"}, "order='shuffled', and this one has order='random'"),
        ({"split": "validation"}, "split='train', images=.*split='validation', images="),
    ],
)
def test_a_state_is_for_an_equal_environment(settings, message):
    env = vector_env(3)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        vector_env(3, **settings).set_state(env.get_state())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_alike(copied):
    env = vector_env(3)
    env.reset_tensors(1)
    twin = copied(env)
    answers = torch.zeros(3, dtype=torch.int64)
    for _ in range(3):
        for ours, its in zip(env.step_tensors(answers), twin.step_tensors(answers), strict=True):
            assert torch.equal(ours, its)
    observation, *_, info = twin.step(answers.numpy())
    np.testing.assert_array_equal(observation, env.step(answers.numpy())[0])
    assert not any(info[key].flags.writeable for key in ("label", "index", "final_obs"))


def test_the_picture_shows_the_augmented_image():
    kwargs = {"order": "sequential", "split": "train", "render_mode": "rgb_array"}
    plain, augmented = (vector_env(1, augment=a, **kwargs) for a in (False, True))
    for env in (plain, augmented):
        env.reset(seed=0)
    assert not np.array_equal(plain.render()[0], augmented.render()[0])
