"""A table in Chinese, from its cells to a prediction: three lines of Python, and the command line."""

import numpy as np
import pandas as pd
import pytest

from ensemblefuse import infer_modalities, load_model, make_fusion_pipeline
from ensemblefuse.cli import main

# What guests of hotels say of some things. Each sentence stands there once: none can be learned by heart.
THINGS = ["房间", "早餐", "前台的服务", "酒店的位置", "浴室", "泳池", "餐厅的菜", "停车场", "这次的旅行"]
PLEASED = ["比我们想的还要好", "让人非常满意", "真的很棒,下次还会再来", "好极了,值得推荐", "让孩子们特别开心"]
ANNOYED = ["比我们想的差多了", "让人非常失望", "真的很糟,再也不会来了", "差极了,千万别选", "让孩子们一直在哭"]
# By how much more of 30 rows are right than with permuted labels, which are right in half of them.
MARGIN = 0.3

pytestmark = pytest.mark.slow  # the network of 16 languages is loaded, and the default members are fitted


@pytest.fixture(scope="module")
def guests():
    """Sentences, categories and numbers, and what the guests would say in one word; 60 rows to fit and 30 others."""
    rng = np.random.default_rng(0)
    said = [f"{thing}{opinion}。" for opinion in PLEASED + ANNOYED for thing in THINGS]
    assert len(set(said)) == len(said)
    pleased = np.arange(90) < 45
    table = pd.DataFrame(
        {
            "评论": said,
            "房型": np.where(rng.random(90) < np.where(pleased, 0.6, 0.4), "大床房", "双床房"),
            "价格": [f"{price:.0f}元" for price in 300 + 40 * pleased + 80 * rng.normal(size=90)],
        }
    )
    table.loc[rng.random(90) < 0.1, "评论"] = None
    order = rng.permutation(90)
    table, y = table.iloc[order].reset_index(drop=True), np.where(pleased, "满意", "失望")[order]
    return table[:60], y[:60], table[60:], y[60:]


def assert_better_than_permuted(said, y):
    rng = np.random.default_rng(1)
    found = (said == y).mean()
    chance = [(said == rng.permutation(y)).mean() for _ in range(1000)]
    assert found > np.mean(chance) + MARGIN and found > max(chance)


def test_three_lines_are_better_than_permuted_labels_by_a_margin(guests, capsys):
    table, y, new, truth = guests
    model = make_fusion_pipeline(infer_modalities(table))
    # A long line goes on in lines that begin with blanks.
    lines = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith(" ")]
    assert [line.split()[1] for line in lines[1:4]] == ["text", "category", "number"]
    assert_better_than_permuted(model.fit(table, y).predict(new), truth)


def test_the_command_line_is_better_than_permuted_labels_by_a_margin(guests, tmp_path):
    table, y, new, truth = guests
    seen, others, model, out = (str(tmp_path / name) for name in ("住客.csv", "新.csv", "住客.fuse", "预测.csv"))
    table.assign(结果=y).to_csv(seen, index=False)
    new.to_csv(others, index=False)
    assert main(["fit", seen, "--target", "结果", "-o", model]) == 0
    assert main(["predict", model, others, "-o", out]) == 0
    assert main(["inspect", model]) == 0
    assert_better_than_permuted(pd.read_csv(out)["prediction"].to_numpy(), truth)
    assert load_model(model).classes_.tolist() == ["失望", "满意"]
