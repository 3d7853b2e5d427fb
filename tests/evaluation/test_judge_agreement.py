"""Agreement of judges with people, worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluation.judge_agreement import (
    Ratings,
    ScoresError,
    agreement,
    main,
    pearson,
    read_ratings,
    spearman,
    within_prompt_spearman,
    within_prompt_variance,
)


def figures(human, judge, prompts):
    ratings = Ratings("semantic", tuple(prompts), np.array(human, float), {"ears": np.array(judge, float)})
    return {f.id.rpartition("/")[2]: f for f in agreement(ratings, "ears")}


def test_the_figures_of_a_small_table():
    # human 1 2 3 4, judge 2 2 4 4. Centred: -1.5 -0.5 0.5 1.5 and -1 -1 1 1; products 1.5 + 0.5 + 0.5 + 1.5 = 4;
    # squares 5 and 4: r = 4 / sqrt(20) = 0.8944. Off by 1 0 1 0: MAE 0.5, all within 1, bias +0.5.
    found = figures([1, 2, 3, 4], [2, 2, 4, 4], "abcd")
    assert found["pearson"].value == pytest.approx(4 / np.sqrt(20))
    assert found["mae"].value == pytest.approx(0.5)
    assert found["within_one"].value == 1.0
    assert found["bias"].value == pytest.approx(0.5)


def test_bias_has_a_sign_and_the_error_none():
    # Off by -2 and +1: bias -0.5, MAE 1.5, half of them within 1.
    found = figures([4, 2], [2, 3], "ab")
    assert (found["bias"].value, found["mae"].value, found["within_one"].value) == (-0.5, 1.5, 0.5)


def test_ranks_that_tie_share_their_mean():
    # Ranks 1 2.5 2.5 4 against 1 2 3 4. Centred: -1.5 0 0 1.5 and -1.5 -0.5 0.5 1.5; products 4.5; squares 4.5 and 5:
    # 4.5 / sqrt(22.5) = 0.9487.
    assert spearman(np.array([1, 3, 3, 5]), np.array([1, 2, 4, 5])) == pytest.approx(4.5 / np.sqrt(22.5))


def test_within_prompts_only_the_order_inside_a_prompt_counts():
    # In prompt a the judge orders as the person does (1), in b the other way round (-1): mean 0, although the judge's
    # scores follow the prompts' levels closely (Pearson well above 0).
    human, judge, prompts = [1, 2, 4, 5], [1, 2, 5, 4], "aabb"
    assert within_prompt_spearman(human, judge, prompts).value == 0
    assert pearson(human, judge, prompts).value > 0.8


def test_prompts_without_an_order_are_left_out_and_counted():
    found = figures([1, 2, 3, 3, 4], [1, 3, 2, 4, 5], "aabbc")
    assert (found["spearman"].value, found["spearman"].n) == (pytest.approx(1), 1)
    assert found["spearman"].note == "undefined in 2 prompts"


def test_the_variance_within_prompts_is_of_the_population():
    # a: 1 and 3, variance 1; b: 2 2 5, mean 3, (1 + 1 + 4) / 3 = 2; c has one reply. Mean 1.5.
    assert within_prompt_variance([1, 3, 2, 2, 5, 4], "aabbbc").value == pytest.approx(1.5)


def test_a_judge_that_never_varies_has_no_correlation():
    found = figures([1, 2, 3], [3, 3, 3], "abc")
    assert found["pearson"].value is None
    assert found["spearman"].value is None
    assert found["mae"].value == pytest.approx(1)  # off by 2, 1 and 0


def test_failed_judgements_are_counted_and_left_out():
    found = figures([1, 2, 3, 4, 5], [1, np.nan, 3, 4, 5], "abcde")
    assert found["pearson"].value == pytest.approx(1)
    assert found["pearson"].note == "1 of 5 judgements failed"
    assert found["mae"].n == 4
    (nothing,) = figures([1], [np.nan], "a").values()
    assert nothing.value is None


def test_the_interval_of_pearson_agrees_with_fishers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = 0.6 * x + 0.8 * rng.normal(size=400)
    estimate = pearson(x, y, [str(n) for n in range(400)])
    assert estimate.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    z = np.arctanh(estimate.value)
    low, high = np.tanh([z - 1.96 / np.sqrt(397), z + 1.96 / np.sqrt(397)])
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.015)


def test_repeating_the_replies_of_a_prompt_does_not_shorten_the_interval():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=60), rng.normal(size=60)
    once = pearson(x, y, [str(n) for n in range(60)])
    four = pearson(np.repeat(x, 4), np.repeat(y, 4), np.repeat([str(n) for n in range(60)], 4))
    assert four.value == pytest.approx(once.value)
    assert four.high - four.low == pytest.approx(once.high - once.low, rel=0.1)


CSV = """prompt,sample,dimension,anna,ben,ears,eyes,voice
p1,0,semantic,4,5,5,3,low
p1,1,semantic,2,,2,,low
p1,0,acoustic,3,3,4,9,low
p2,0,semantic,1,1,1,x,high
p2,1,semantic,,,5,5,high
"""


def test_a_table_is_read_by_dimension_people_averaged_and_bad_judgements_failed(tmp_path):
    (tmp_path / "scores.csv").write_text(CSV)
    semantic, acoustic = read_ratings(tmp_path / "scores.csv", human=["anna", "ben"])
    assert (semantic.dimension, acoustic.dimension) == ("semantic", "acoustic")
    assert semantic.prompts == ("p1", "p1", "p2")
    assert semantic.human.tolist() == [4.5, 2, 1]
    assert semantic.judges["ears"].tolist() == [5, 2, 1]
    np.testing.assert_array_equal(semantic.judges["eyes"], [3, np.nan, np.nan])
    assert np.isnan(acoustic.judges["eyes"][0])
    assert list(semantic.judges) == ["ears", "eyes"]


def test_jsonl_is_read_alike(tmp_path):
    rows = [{"prompt": "a", "human": 2, "ears": 3}, {"prompt": "b", "human": 4, "ears": None}]
    (tmp_path / "scores.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (ratings,) = read_ratings(tmp_path / "scores.jsonl")
    assert (ratings.dimension, ratings.human.tolist()) == ("all", [2, 4])
    np.testing.assert_array_equal(ratings.judges["ears"], [3, np.nan])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,human,ears\np1,6,3\n", 'scores.csv:2: the score of "human" must be from 1 to 5 or empty'),
        ("prompt,ears\np1,3\n", 'no column "human"'),
        ("human,ears\n3,3\n", 'no column "prompt"'),
        ("prompt,human\np1,3\n", "has no judge"),
        ("prompt,human,ears\np1,,3\n", "No row of"),
        ("", "has no rows"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, capsys, text, message):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(ScoresError, match=message):
        read_ratings(tmp_path / "scores.csv")
    assert main([str(tmp_path / "scores.csv")]) == 1
    assert message in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path, capsys):
    (tmp_path / "scores.csv").write_text(CSV)
    out = tmp_path / "figures.json"
    assert main([str(tmp_path / "scores.csv"), "--human", "anna", "ben", "--judges", "ears", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    head, judge = printed.splitlines()[:2]
    assert head.split()[:5] == ["judge", "Pearson", "sem", "Pearson", "ac"]
    assert judge.startswith("ears ")
    assert "semantic: 3 replies to 2 prompts" in printed
    assert "ears: Spearman within prompts" in printed
    ids = [f["id"] for f in json.loads(out.read_text())["figures"]]
    assert "semantic/ears/bias" in ids
    assert "acoustic/human/variance" in ids
    assert main([str(tmp_path / "nothing.csv")]) == 1


def test_few_prompts_have_no_interval():
    four, five = figures([1, 2, 3, 4], [2, 2, 4, 4], "abcd"), figures([1, 2, 3, 4, 5], [2, 2, 4, 4, 5], "abcde")
    assert (four["mae"].low, four["mae"].high) == (None, None)
    assert five["mae"].low < five["mae"].value < five["mae"].high


def test_wrong_options_are_one_sentence(tmp_path, capsys):
    scores = tmp_path / "scores.csv"
    scores.write_text("prompt,human,ears\n")
    assert main([str(scores)]) == 1
    assert "has no rows" in capsys.readouterr().err
    scores.write_text("prompt,human,ears\na,1,2\n")
    for wrong in (["--seed", "-1"], ["--json", str(tmp_path / "none" / "figures.json")]):
        with pytest.raises(SystemExit):
            main([str(scores), *wrong])
        assert wrong[0] in capsys.readouterr().err
