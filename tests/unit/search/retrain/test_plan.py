"""What a recalculation will train: recipes, seeds, how long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_best import tiny_best, tiny_search, write_sets

from nkat_errors import BadInput
from search.retrain.plan import Plan, trial_digest
from search.retrain.recalculation import changed_settings
from search.retrain.work_dir import WorkDir, only_process


@pytest.fixture
def folder(tmp_path):
    return write_sets(tmp_path)


def plan_of(folder, *, device="CPU, 1 threads", runs=None, epochs_factor=None, **changes):
    best = tiny_best(folder, tiny_search(**changes))
    settings = changed_settings(best.recalculation, runs=runs, epochs_factor=epochs_factor)
    return Plan.of(best, settings=settings, device=device, data_dir=folder)


def test_a_sets_own_recipe_goes_before_the_recalculations_which_goes_before_the_files(folder):
    shades, greys = plan_of(folder).sets
    assert (shades.recipe.randaugment_ops, greys.recipe.randaugment_ops) == (0, 1)
    assert (shades.recipe.cutmix, greys.recipe.cutmix) == (0.1, 0.1)  # the file: 0.0
    assert (shades.recipe.lr, greys.recipe.lr) == (3e-3, 3e-3)
    assert (shades.recipe.epochs, greys.recipe.epochs) == (8, 4)
    assert (shades.recipe.flip, greys.recipe.flip) == (True, False)


def test_the_trials_own_value_gives_way_too(folder):
    search = tiny_search(
        fixed="lr: 3.0e-3, -> ",
        searched="space: { -> space: {lr: [0.5], ",
        long="cutmix: 0.1} -> cutmix: 0.1, lr: 0.25}",
    )
    best = tiny_best(folder, search, params={"embed_dim": 16, "lr": 0.5})
    assert best.train["lr"] == 0.5
    plan = Plan.of(best, settings=best.recalculation, device="CPU", data_dir=folder)
    assert [one.recipe.lr for one in plan.sets] == [0.25, 0.25]


def test_trainings_are_set_by_set_and_seeds_follow_the_files(folder):
    plan = plan_of(folder)
    assert [(t.number, t.name, t.first_seed) for t in plan.trainings()] == [
        (0, "shades-seed7", True),
        (1, "shades-seed8", False),
        (2, "greys-seed7", True),
        (3, "greys-seed8", False),
    ]
    assert plan.epochs == 2 * (8 + 4)


def test_the_command_line_goes_before_the_file(folder):
    plan = plan_of(folder, runs=3, epochs_factor=0.4)
    assert plan.seeds == (7, 8, 9)
    assert [one.recipe.epochs for one in plan.sets] == [1, 1]  # 0.8 and 0.4 epochs, at least 1


def test_the_estimate_scales_what_the_trial_took(folder):
    plan = plan_of(folder)
    # The trial: 3 s for 2 epochs of 60 and 1 of 60 images; here twice 8 of 120 and 4 of 120.
    color, grey = (one.work_per_epoch / 120 for one in plan.sets)
    took = 2 * 60 * color + 60 * grey
    ahead = 2 * (8 * 120 * color + 4 * 120 * grey)
    assert plan.work == pytest.approx(ahead)
    assert plan.estimate_s == pytest.approx(3 * ahead / took)
    twice = plan_of(folder, runs=4)
    assert twice.estimate_s == pytest.approx(2 * plan.estimate_s)


def test_no_estimate_for_another_device(folder):
    assert plan_of(folder, device="NVIDIA H100").estimate_s is None


def test_a_written_warmup_must_fit_and_one_that_was_cut_is_cut_again(folder):
    with pytest.raises(BadInput, match=r"warmup = 1.5 .* 1 epochs on shades: raise epochs_factor"):
        plan_of(
            folder,
            warm="warmup: 0.25 -> warmup: 1.5",
            greys="{randaugment_ops: 1} -> {randaugment_ops: 1, warmup: 0.5}",
            epochs_factor=0.5,
        )
    cut = plan_of(
        folder,
        default=" warmup: 0.25, -> ",  # 5 epochs, cut to half of the run
        epochs_factor=1,
    )
    assert [one.recipe.epochs for one in cut.sets] == [2, 1]


def test_a_set_that_is_not_there(folder):
    best = tiny_best(folder, tiny_search())
    (folder / "greys.npz").unlink()
    with pytest.raises(BadInput, match="greys"):
        Plan.of(best, settings=best.recalculation, device="CPU", data_dir=folder)


def test_a_work_folder_knows_its_plan(folder, tmp_path):
    plan, work = plan_of(folder), tmp_path / "work"
    WorkDir(folder=work, identity=plan.identity()).finish("shades-seed7", 0, {"accuracy": 0.5})
    again = WorkDir(folder=work, identity=plan.identity())
    assert again.result("shades-seed7") == {"accuracy": 0.5}
    assert again.result("shades-seed8") is None
    other = plan_of(folder, long="cutmix: 0.1} -> cutmix: 0.2}")
    with pytest.raises(BadInput, match=r"sets.shades.recipe.cutmix is 0.1 there, 0.2 here"):
        WorkDir(folder=work, identity=other.identity())
    with pytest.raises(BadInput, match=r"device is 'CPU, 1 threads' there, 'a card' here"):
        WorkDir(folder=work, identity=replace(plan, device="a card").identity())
    (work / "plan.json").write_text("{")
    with pytest.raises(BadInput, match="damaged; delete"):
        WorkDir(folder=work, identity=plan.identity())


def test_what_a_killed_removal_left_is_never_taken_for_results(folder, tmp_path):
    plan, work = plan_of(folder), tmp_path / "work"
    WorkDir(folder=work, identity=plan.identity()).finish("shades-seed7", 0, {"accuracy": 0.5})
    (work / "plan.json").unlink()  # what `remove` does first
    with pytest.raises(BadInput, match=r"work holds 'results' and no recalculation under way"):
        WorkDir(folder=work, identity=plan.identity())


def test_a_users_files_are_neither_used_nor_deleted(folder, tmp_path):
    plan, work = plan_of(folder), tmp_path / "work"
    (work / "results").mkdir(parents=True)
    (work / "results" / "thesis.json").write_text("mine")
    with only_process(work), pytest.raises(BadInput, match="name an empty or a new folder"):
        WorkDir(folder=work, identity=plan.identity())
    assert (work / "results" / "thesis.json").exists()
    assert not (work / "lock").exists()


def test_a_work_folder_goes_when_all_is_done_and_stays_while_it_is_not(folder, tmp_path):
    plan, work = plan_of(folder), tmp_path / "work"
    with only_process(work):
        WorkDir(folder=work, identity=plan.identity()).checkpoints.save(1, b"state")
    with only_process(work):
        there = WorkDir(folder=work, identity=plan.identity())
        assert there.checkpoints.load(1) == b"state"
        there.finish("shades-seed8", 1, {"accuracy": 0.5})
        assert there.checkpoints.load(1) is None
        there.remove()
    assert not work.exists()


def test_a_file_and_its_recalculated_copy_are_one_trial(folder):
    best = tiny_best(folder, tiny_search())
    longer = changed_settings(best.recalculation, runs=9, epochs_factor=None)
    copy = best.model_copy(
        update={"recalculation": type(best.recalculation)(**longer.model_dump())}
    )
    assert trial_digest(copy) == trial_digest(best)
    other = tiny_best(folder, tiny_search(lr="lr: 3.0e-3 -> lr: 4.0e-3"))
    assert trial_digest(other) != trial_digest(best)
