import pytest

from benchmarks.sections.plan import FULL, QUICK, Plan
from benchmarks.servers.kinds import KINDS


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_plans_name_servers_that_there_are(plan: Plan) -> None:
    for names in (plan.servers, plan.parts, plan.slow, plan.large_servers, plan.frameworks):
        assert set(names) <= set(KINDS)


def test_slow_servers_get_fewer_rounds_and_others_a_part() -> None:
    plan = Plan(slow=("bentoml",), slow_rounds=1, parts={"ray_serve": ("fixed",)}, rounds=3)
    assert [plan.rounds_of(name) for name in ("unroll", "bentoml")] == [3, 1]
    assert plan.has("unroll", "many")
    assert plan.has("ray_serve", "fixed")
    assert not plan.has("ray_serve", "mixed")
