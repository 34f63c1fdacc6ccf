from __future__ import annotations

import threading
from pathlib import Path

import pytest

import moerge
from moerge import StageAdvanced, StageFinished, StageStarted

MODELS = ["base", "code", "math", "story"]


def test_events_and_result(tiny: Path, tmp_path: Path) -> None:
    events: list[moerge.Event] = []
    threads = set()

    def on_progress(event: moerge.Event) -> None:
        events.append(event)
        threads.add(threading.current_thread())

    result = moerge.merge(tiny / "moe.yml", tmp_path / "out", on_progress=on_progress)
    started = [event for event in events if isinstance(event, StageStarted)]
    finished = [event for event in events if isinstance(event, StageFinished)]
    assert [event.stage for event in started] == ["prompts", "weights", "verify"]
    assert [event.stage for event in finished] == ["prompts", "weights", "verify"]
    assert [event.unit for event in started] == ["layers", "bytes", "tensors"]
    assert [event.total for event in started] == [event.done for event in finished]
    assert threads == {threading.current_thread()}
    assert result.out == tmp_path / "out"
    assert (result.tensors, result.shards, result.already_there) == (98, 1, False)
    assert result.active_parameters is not None and result.active_parameters < result.parameters
    assert (result.out / "model.safetensors").stat().st_size < result.bytes

    assert moerge.merge(tiny / "moe.yml", tmp_path / "out").already_there


def test_a_dict_and_a_file_build_the_same(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {
        "merge_method": "ties",
        "base_model": "base",
        "dtype": "bfloat16",
        "models": [{"model": name, "parameters": {"weight": 1.0, "density": 0.5}} for name in MODELS[1:]],
    }
    file = tmp_path / "recipe.yml"
    file.write_text(repr(recipe))  # flow style
    monkeypatch.chdir(tiny)
    of_dict = moerge.merge(recipe, tmp_path / "a")
    of_file = moerge.merge(file, tmp_path / "b")
    assert of_dict.merge_method == of_file.merge_method == "ties"
    weights = [(result.out / "model.safetensors").read_bytes() for result in (of_dict, of_file)]
    assert weights[0] == weights[1]


def test_gguf_files(tiny: Path, tmp_path: Path) -> None:
    result = moerge.merge(tiny / "ties.yml", tmp_path / "out.gguf", quant=["q8_0", "q4_0"])
    assert [file.quant for file in result.files] == ["q8_0", "q4_0"]
    assert all(file.out.stat().st_size == file.bytes for file in result.files)


def test_flags_without_a_parameter(tiny: Path, tmp_path: Path) -> None:
    result = moerge.merge(tiny / "moe.yml", tmp_path / "out", extra_args=["--out-shard-size", "1MB"])
    assert result.shards > 1


def test_an_exception_of_the_callback_stops_the_merge(tiny: Path, tmp_path: Path) -> None:
    def on_progress(event: moerge.Event) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        moerge.merge(tiny / "self_calibrated.yml", tmp_path / "out", on_progress=on_progress, num_threads=1)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_stops_the_merge(tiny: Path, tmp_path: Path) -> None:
    def on_progress(event: moerge.Event) -> None:
        if isinstance(event, StageAdvanced):
            raise KeyboardInterrupt

    # Enough text that the merge outlives the seconds that the binary is given to end by itself.
    recipe = {
        "base_model": str(tiny / "base"),
        "self_text": {"samples": 128, "tokens": 256},
        "experts": [{"source_model": str(tiny / name)} for name in MODELS],
    }
    with pytest.raises(KeyboardInterrupt):
        moerge.merge(recipe, tmp_path / "out", on_progress=on_progress, num_threads=1)
    assert not (tmp_path / "out").exists()
