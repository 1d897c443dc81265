"""Networks of sound."""

from __future__ import annotations

from typing import Any

import torch

from architectures.kinds import ENCODER, SEQUENCES, VOCABULARY, Architecture, Inputs, species, waves, without

FEATURES = {"conv_dim": (14, 18), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
POSITIONS = {"num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 3}


def _waves(kind: str, task: str = "ForCTC", **more: Any) -> Architecture:
    return Architecture("audio", species(kind, task, **{**ENCODER, **FEATURES, **POSITIONS, **more}), waves)


def _bands(batch: int, length: int) -> Inputs:
    return {"input_features": torch.randn(batch, 24, 32), "decoder_input_ids": torch.randint(3, VOCABULARY, (batch, 5))}


def _frames(batch: int, length: int) -> Inputs:
    decoded = torch.randint(3, VOCABULARY, (batch, 5))
    return {"input_features": torch.randn(batch, 4 * length, 24), "decoder_input_ids": decoded}


def _spectrogram(batch: int, _: int) -> Inputs:
    return {"input_values": torch.randn(batch, 40, 24)}


def _wave(batch: int, length: int) -> Inputs:
    return {"input_values": torch.randn(batch, 1, 40 * length)}


def _filters(batch: int, length: int) -> Inputs:
    return {"input_features": torch.randn(batch, 2 * length, 24)}


NETWORKS: dict[str, Architecture] = {
    "wav2vec2": _waves("Wav2Vec2"),
    "hubert": _waves("Hubert"),
    "wavlm": _waves("WavLM", num_buckets=8, max_bucket_distance=16),
    "unispeech": _waves("UniSpeech"),
    "data2vec_audio": _waves("Data2VecAudio", "ForSequenceClassification", conv_pos_kernel_size=3),
    "sew": _waves("SEW", squeeze_factor=2),
    "wav2vec2_conformer": _waves("Wav2Vec2Conformer", position_embeddings_type="rotary"),
    "wav2vec2_bert": Architecture(
        "audio", species("Wav2Vec2Bert", "ForCTC", feature_projection_input_dim=24, **ENCODER), _filters
    ),
    "whisper": Architecture(
        "audio",
        species(
            "Whisper",
            "ForConditionalGeneration",
            num_mel_bins=24,
            max_source_positions=16,
            max_target_positions=40,
            **without(SEQUENCES, "max_position_embeddings"),
        ),
        _bands,
    ),
    "speech_to_text": Architecture(
        "audio",
        species(
            "Speech2Text",
            "ForConditionalGeneration",
            input_feat_per_channel=24,
            num_conv_layers=2,
            conv_channels=20,
            conv_kernel_sizes=(3, 3),
            max_source_positions=60,
            max_target_positions=40,
            **without(SEQUENCES, "max_position_embeddings"),
        ),
        _frames,
    ),
    "audio_spectrogram": Architecture(
        "audio",
        species(
            "AST",
            "ForAudioClassification",
            max_length=40,
            num_mel_bins=24,
            patch_size=8,
            frequency_stride=8,
            time_stride=8,
            **without(ENCODER, "vocab_size", "max_position_embeddings"),
        ),
        _spectrogram,
    ),
    "encodec": Architecture(
        "audio",
        species(
            "Encodec",
            "Model",
            num_filters=6,
            hidden_size=20,
            codebook_size=16,
            codebook_dim=20,
            upsampling_ratios=[4, 2],
            num_residual_layers=1,
            num_lstm_layers=1,
            target_bandwidths=[1.5],
            sampling_rate=800,
        ),
        _wave,
        False,
    ),
}
