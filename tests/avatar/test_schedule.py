"""What each step does: the published course at 50 steps, the same course at any other count."""

import pytest

from pipeline.avatar.schedule import plan_step

COUNTS = [1, 2, 3, 5, 6, 8, 10, 13, 20, 25, 30, 49, 50, 51, 60, 100, 137]


@pytest.mark.parametrize("num_steps", COUNTS)
def test_no_run_ends_on_a_cached_step_or_begins_with_one(num_steps: int) -> None:
    steps = [plan_step(step, num_steps) for step in range(num_steps)]
    assert steps[0].is_full and steps[-1].is_full


@pytest.mark.parametrize("num_steps", COUNTS)
def test_cached_steps_never_reach_back_into_the_part_the_text_guides(num_steps: int) -> None:
    steps = [plan_step(step, num_steps) for step in range(num_steps)]
    for number, step in enumerate(steps):
        if not step.is_full:
            last_full = next(one for one in reversed(steps[:number]) if one.is_full)
            assert not last_full.is_text_guided and not step.is_text_guided


@pytest.mark.parametrize("num_steps", [20, 30, 50, 100, 137])
def test_other_counts_follow_the_published_course(num_steps: int) -> None:
    for step in range(num_steps):
        plan, published = plan_step(step, num_steps), plan_step(step * 50 // num_steps, 50)
        assert plan.is_text_guided == published.is_text_guided
        assert plan.face_mask_factor == published.face_mask_factor
        assert plan.guidance == pytest.approx(published.guidance, abs=5.5 / 50 + 1e-9)


def test_the_share_of_full_steps_is_the_published_one() -> None:
    for num_steps in (50, 100, 200):
        num_full = sum(plan_step(step, num_steps).is_full for step in range(num_steps))
        assert num_full / num_steps == pytest.approx(30 / 50, abs=0.11)
    assert all(plan_step(step, 10).is_full for step in range(10)), "so few steps differ too much from one to the next"


def test_scale_one_is_no_guidance_and_seven_and_a_half_the_published_ramps() -> None:
    assert {plan_step(step, 50, 1).guidance for step in range(50)} == {1}
    assert [plan_step(step, 50, 7.5).guidance for step in (0, 9, 10, 49)] == pytest.approx([7.5, 6.51, 5.9, 3.56])


def test_guidance_grows_with_the_scale_at_every_step() -> None:
    for step in range(50):
        weights = [plan_step(step, 50, scale).guidance for scale in (1, 1.5, 4, 7.5, 12)]
        assert weights == sorted(weights) and len(set(weights)) == 5
