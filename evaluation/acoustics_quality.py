"""Models that predict how listeners would rate a recording: DNSMOS P.835 (speechmos) and UTMOS.

DNSMOS: Reddy et al. 2022 (arXiv 2110.01763). The weights come in the speechmos wheel and run in onnxruntime; how a clip
is cut, and the polynomials that map the raw outputs, are those of the released code.
UTMOS: Saeki et al. 2022 (arXiv 2204.02152), the strong learner as tarepan/SpeechMOS packs it for torch.hub. It is used
where torch.hub has it on this machine already; nothing is downloaded here.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.tasks.protocol import MetricInfo
from wavalign.audio import Waveform

RATE = 16_000
DNSMOS_SECONDS = 9.01
_POLYNOMIALS = {
    "dnsmos_signal": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_background": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_overall": (-0.06766283, 1.11546468, 0.04602535),
}
"""By output of the network, in its order; highest power first."""
UTMOS_REPOSITORY = "tarepan/SpeechMOS:v1.2.0"
_UTMOS_FOLDER, _UTMOS_WEIGHTS = "tarepan_SpeechMOS_v1.2.0", "utmos22_strong_step7459_v1.pt"
_GET_UTMOS = f"python -c \"import torch; torch.hub.load('{UTMOS_REPOSITORY}', 'utmos22_strong', trust_repo=True)\""
_SHORT = "a reply shorter than 9 s is repeated to that length, as in the released code"

QUALITY: tuple[MetricInfo, ...] = (
    MetricInfo(
        "dnsmos_overall",
        "MOS",
        1.0,
        5.0,
        "higher",
        f"predicted overall opinion, trained on noise-suppressed human speech: it hears noise and distortion, hardly "
        f"prosody, and nothing of what is said; {_SHORT}",
    ),
    MetricInfo("dnsmos_signal", "MOS", 1.0, 5.0, "higher", f"predicted opinion of the voice itself; {_SHORT}"),
    MetricInfo("dnsmos_background", "MOS", 1.0, 5.0, "higher", f"predicted opinion of the background; {_SHORT}"),
    MetricInfo(
        "utmos",
        "MOS",
        1.0,
        5.0,
        "higher",
        "predicted naturalness of synthetic English speech; compares systems, single replies are noisy",
    ),
)


class QualityModels:
    """Those of ``QUALITY`` that this machine has. ``utmos`` names another checkout of SpeechMOS than torch.hub's."""

    def __init__(self, dnsmos: bool = True, utmos: Path | None = None) -> None:
        self._wants_dnsmos = dnsmos
        self._utmos_folder = utmos

    @cached_property
    def unavailable(self) -> Mapping[str, str]:
        """Metric -> one sentence."""
        absent = {}
        if sentence := self._without_dnsmos():
            absent |= dict.fromkeys(_POLYNOMIALS, sentence)
        if sentence := self._without_utmos():
            absent["utmos"] = sentence
        return absent

    def score(self, waveform: Waveform) -> tuple[dict[str, float | None], dict[str, str]]:
        """The values of one recording, and the reasons of those that failed; None for silence of no samples."""
        absent = self.unavailable
        names = [metric.name for metric in QUALITY if metric.name not in absent]
        values: dict[str, float | None] = dict.fromkeys(names)
        failed: dict[str, str] = {}
        samples = np.clip(waveform.resampled(RATE).samples, -1.0, 1.0)
        if not names or not samples.any():
            return values, failed
        if "dnsmos_overall" in names:
            values |= dnsmos(self._dnsmos, samples)
        if "utmos" in names:
            try:
                with torch.inference_mode():
                    values["utmos"] = float(self._utmos(torch.from_numpy(samples)[None], RATE).mean())
            except RuntimeError as error:
                failed["utmos"] = f"UTMOS: {str(error).splitlines()[0]}"
        return values, failed

    def _without_dnsmos(self) -> str:
        if not self._wants_dnsmos:
            return "DNSMOS was switched off."
        missing = [name for name in ("speechmos", "onnxruntime") if importlib.util.find_spec(name) is None]
        return f"DNSMOS needs {' and '.join(missing)}: pip install {' '.join(missing)}." if missing else ""

    def _without_utmos(self) -> str:
        folder, weights = self._utmos_place()
        if not (folder / "hubconf.py").is_file() or not weights.is_file():
            return f"UTMOS's weights are not on this machine: {_GET_UTMOS} fetches them once."
        return ""

    def _utmos_place(self) -> tuple[Path, Path]:
        hub = Path(torch.hub.get_dir())
        return self._utmos_folder or hub / _UTMOS_FOLDER, hub / "checkpoints" / _UTMOS_WEIGHTS

    @cached_property
    def _dnsmos(self) -> Any:
        import onnxruntime

        # The package's own module needs librosa for a fourth score; only its weights are used.
        spec = importlib.util.find_spec("speechmos")
        model = Path(spec.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    @cached_property
    def _utmos(self) -> Any:
        import wavalign.torchaudio_guard  # noqa: F401

        folder, _ = self._utmos_place()
        return torch.hub.load(str(folder), "utmos22_strong", source="local").eval()


def dnsmos(session: Any, samples: np.ndarray) -> dict[str, float]:
    """DNSMOS P.835 of samples (n,) in [-1, 1] at 16 kHz: the mean over windows of 9.01 s, one every second."""
    length = int(DNSMOS_SECONDS * RATE)
    while len(samples) < length:
        samples = np.append(samples, samples)
    hops = int(math.floor(len(samples) / RATE) - DNSMOS_SECONDS) + 1
    windows = [samples[hop * RATE : hop * RATE + length] for hop in range(hops)]
    raw = np.array([session.run(None, {"input_1": w[None].astype(np.float32)})[0][0] for w in windows])
    return {
        name: float(np.mean(np.polyval(polynomial, raw[:, place])))
        for place, (name, polynomial) in enumerate(_POLYNOMIALS.items())
    }
