"""The guard, seen from clean interpreters: nothing that another test imported can help."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_wavalign_is_light():
    assert run("import sys, wavalign; print('torch' in sys.modules, 'torchaudio' in sys.modules)").split() == [
        "False",
        "False",
    ]


def test_torchaudio_and_a_transformers_audio_model_import_and_work():
    output = run(
        "import wavalign, torch\n"
        "import torchaudio.transforms as transforms\n"
        "from transformers import Wav2Vec2Model, Qwen2AudioForConditionalGeneration\n"
        "mel = transforms.MelSpectrogram(16000, n_mels=20)(torch.randn(1, 16000))\n"
        "print(tuple(mel.shape), bool(torch.isfinite(mel).all()))\n"
    )
    assert output.strip() == "(1, 20, 81) True"


def test_the_guard_steps_in_only_where_the_extension_cannot_load():
    unguarded = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, timeout=300)
    stubbed = run("from wavalign import torchaudio_guard\nimport torchaudio\nprint(torchaudio_guard.is_stubbed())")
    assert stubbed.strip() == str(unguarded.returncode != 0)


def test_a_working_extension_is_left_alone(tmp_path):
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _extension\n")
    (package / "_extension.py").write_text("_IS_TORCHAUDIO_EXT_AVAILABLE = True\n")
    output = run(
        "import sys\nfrom wavalign import torchaudio_guard\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport torchaudio\n"
        "print(torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE, torchaudio_guard.is_stubbed())"
    )
    assert output.split() == ["True", "False"]
