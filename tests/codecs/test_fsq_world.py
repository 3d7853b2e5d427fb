import numpy as np
import pytest
import torch

from tests.tiny import make_tiny_codec
from wavalign.audio import Waveform
from wavalign.closedtalk.deliveries import Delivery
from wavalign.codecs import world
from wavalign.codecs.fsq_world import FsqWorldCodec, collapse_ctc
from wavalign.codecs.loading import load_codec
from wavalign.codecs.logmel import log_mel
from wavalign.metrics.mcd import mel_cepstral_distortion


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> FsqWorldCodec:
    return load_codec(make_tiny_codec(tmp_path_factory.mktemp("codec")))


def tone(seconds: float, hertz: float = 150.0) -> Waveform:
    clock = np.arange(int(seconds * 16_000)) / 16_000
    return Waveform(0.1 * sum(np.sin(2 * np.pi * hertz * k * clock) / k for k in range(1, 20)), 16_000)


def test_every_code_is_its_vectors_code() -> None:
    codec = FsqWorldCodec(encoder_channels=16, encoder_blocks=1, decoder_channels=16)
    assert codec.codebook_size == 8 * 8 * 8 * 5
    codes = torch.arange(codec.codebook_size)
    assert torch.equal(codec.codes_of(codec.vectors_of(codes)), codes)


def test_a_second_of_speech_is_25_tokens_and_comes_back_as_long(codec: FsqWorldCodec) -> None:
    codes = codec.encode_reply(tone(1.0))
    assert len(codes) == len(codec.encode(tone(1.0))) == 25
    assert codec.decode(codes).seconds == pytest.approx(1.0)


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_streaming_gives_exactly_what_decoding_at_once_gives(codec: FsqWorldCodec, chunk: int) -> None:
    codes = np.random.default_rng(0).integers(0, codec.codebook_size, 57).tolist()
    stream = codec.stream()
    parts = [stream.push(codes[i : i + chunk]) for i in range(0, len(codes), chunk)]
    streamed = np.concatenate([*parts, stream.finish()])
    whole = codec.decode(codes).samples
    assert len(streamed) == len(whole)
    # Equal to 16-bit silence: no seam can be heard.
    assert np.abs(streamed - whole).max() < 1e-4


def test_the_first_chunk_of_ten_tokens_already_sounds(codec: FsqWorldCodec) -> None:
    stream = codec.stream()
    codes = np.random.default_rng(1).integers(0, codec.codebook_size, 10).tolist()
    assert len(stream.push(codes)) / codec.sample_rate >= 0.2


def test_no_codes_are_no_sound_and_wrong_codes_are_refused(codec: FsqWorldCodec) -> None:
    assert codec.decode([]).seconds == 0
    assert len(codec.stream().finish()) == 0
    with pytest.raises(ValueError, match="Codes must lie in"):
        codec.decode([codec.codebook_size])


def test_world_keeps_pitch_and_a_longer_input_begins_the_same() -> None:
    features = world.analyse(tone(0.8, 140.0).samples)
    voiced = features[:, world.VOICED] > 0.5
    assert np.exp(np.median(features[voiced, world.LN_F0])) == pytest.approx(140, rel=0.01)
    whole = world.synthesise(features)
    prefix = world.synthesise(features[:50])[: 44 * 160]
    assert np.array_equal(prefix, whole[: len(prefix)])


def test_refined_features_bring_the_synthesis_nearer_and_leave_pitch_alone() -> None:
    synthesis = pytest.importorskip("wavalign.closedtalk.synthesis")
    pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel speaks")
    original = synthesis.speak_assistant("seven plus five is twelve", Delivery.HAPPY)
    plain = world.analyse(original.samples)
    refined = world.refined(plain)
    distances = [
        mel_cepstral_distortion(original, Waveform(world.synthesise(features)[: len(original.samples)], 16_000))
        for features in (plain, refined)
    ]
    assert distances[1] < 0.9 * distances[0]
    assert np.array_equal(plain[:, world.ENVELOPE :], refined[:, world.ENVELOPE :])


def test_collapsing_ctc_by_hand() -> None:
    # classes: 0 blank, 1 space, 2 a, 3 b. "a a - a space b b" -> "aa b"
    assert collapse_ctc([2, 2, 0, 2, 1, 3, 3]) == "aa b"
    assert collapse_ctc([0, 1, 1, 0]) == ""


def test_log_mel_has_100_frames_a_second_and_a_floor() -> None:
    mel = log_mel(np.zeros(16_000, np.float32))
    assert mel.shape == (100, 80)
    assert torch.allclose(mel, torch.full_like(mel, float(np.log(1e-4))))
