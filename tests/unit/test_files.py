"""Files: whole or not at all, and where the cache lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kdlab.files import cache_folder, fingerprint, fingerprint_of_weights, read_json, write_json, write_text


def test_what_is_written_comes_back(tmp_path):
    content = {"größer": ["日本", 1.5, None]}
    write_json(tmp_path / "new" / "file.json", content)
    assert read_json(tmp_path / "new" / "file.json") == content
    assert "größer" in (tmp_path / "new" / "file.json").read_bytes().decode("utf-8")
    assert read_json(tmp_path / "nothing.json") is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.json"]


@pytest.mark.parametrize("cut", ["write_text", "replace"])
def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch, cut):
    file = tmp_path / "file.json"
    write_json(file, {"old": 1})
    write = Path.write_text

    def killed(path, *arguments, **options):
        if cut == "write_text":
            write(path, "{", encoding="utf-8")  # as far as it came
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, cut, killed)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "new")
    assert read_json(file) == {"old": 1}


def test_the_cache_is_where_the_user_wants_it(monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("KDLAB_CACHE")
    assert cache_folder() == Path("/two/kdlab")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/me/.cache/kdlab")


def test_a_fingerprint_is_of_the_content():
    assert fingerprint({"a": [1, 2], "b": 2}) == fingerprint({"b": 2, "a": [1, 2]})
    others = [{"a": [1, 2]}, {"a": [2, 1], "b": 2}, {"a": [1, 2], "b": 3}, {"a": [1, 2], "c": 2}]
    assert len({fingerprint(content) for content in others}) == 4


def test_a_fingerprint_of_weights_is_of_values_names_and_types():
    layer = nn.Linear(2, 2)
    same = nn.Linear(2, 2)
    same.load_state_dict(layer.state_dict())
    assert fingerprint_of_weights(layer) == fingerprint_of_weights(same)
    with torch.no_grad():
        same.weight[0, 0].nextafter_(torch.tensor(9.0))
    others = [layer, same, nn.Sequential(layer), nn.Linear(2, 2, bias=False).bfloat16()]
    assert len({fingerprint_of_weights(model) for model in others}) == 4
