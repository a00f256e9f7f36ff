"""The rule: what it says of planted gains and losses, and how seldom it promotes by chance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphufs.config.retraining import Retraining
from graphufs.retraining.rule import ComparedScore, judge
from graphufs.weatherbench.compare.significance import score_difference
from tests.weatherbench.compare.test_significance import red_noise, state

RULE = Retraining(then="promote")


def finding(change: float = 0.0, p_value: float = 0.5, **more: object) -> ComparedScore:
    one = ComparedScore("temperature", 500, "24h", "K", 2.0, 2.0 * (1 + change), -0.1, 0.1, p_value)
    return replace(one, **more)


@pytest.mark.parametrize(
    ("findings", "unstable", "decision", "words"),
    [
        ([finding(-0.05, 1e-4), finding()], [], "promote", "1 of 2 named scores are better"),
        ([finding(-0.05, 0.04), finding()], [], "hold", "no named score is better beyond chance"),  # 0.04 > 0.05 / 2
        ([finding(0.01, 1e-6)], [], "hold", "no named score is better"),  # a loss beyond chance is no gain
        ([finding(-0.05, 1e-4), finding(0.03)], [], "refuse", "3.0 % worse, more than the 2 %"),
        ([finding(-0.05, 1e-4), finding(challenger=float("nan"))], [], "refuse", "worse"),
        ([finding(-0.05, 1e-4)], ["it blew up"], "refuse", "not stable: it blew up"),
    ],
)
def test_the_rule_promotes_gains_holds_chance_and_refuses_losses(
    findings: list[ComparedScore], unstable: list[str], decision: str, words: str
) -> None:
    found, why = judge(findings, unstable, RULE)
    assert found == decision and words in why


def test_a_gain_asks_a_person_where_the_experiment_says_so() -> None:
    assert judge([finding(-0.05, 1e-4)], [], Retraining(then="ask"))[0] == "ask"
    assert judge([finding()], [], Retraining(then="ask"))[0] == "hold", "nobody is asked about nothing"


def promoted(gain: float, seeds: range, scores: int = 4, times: int = 40, memory: float = 0.6) -> float:
    """The share of comparisons that promote a challenger whose MSE is lower by `gain`."""
    decisions = []
    for seed in seeds:
        common, mine, other = (red_noise(times, memory, 3 * seed + part, scores) for part in range(3))
        champion, challenger = state(5 + common + 0.3 * other), state(5 * (1 - gain) + common + 0.3 * mine)
        found = score_difference(challenger, champion, "mse", level=RULE.level)
        values = [one.averages()["squared_error"].mean(axis=0)[0, :, 0] for one in (champion, challenger)]
        findings = [
            finding(0, found.p_value[0, cell, 0], champion=values[0][cell], challenger=values[1][cell])
            for cell in range(scores)
        ]
        decisions.append(judge(findings, [], replace_bound(RULE))[0])
    return decisions.count("promote") / len(decisions)


def replace_bound(rule: Retraining) -> Retraining:
    """The rule without its bound on losses, which would hide what chance alone promotes."""
    return rule.model_copy(update={"worse_by_at_most": 1.0})


def test_of_200_comparisons_without_a_difference_at_most_the_stated_level_promotes() -> None:
    assert promoted(0.0, range(200)) <= RULE.level


def test_a_real_gain_is_found() -> None:
    assert promoted(0.1, range(20)) > 0.9
