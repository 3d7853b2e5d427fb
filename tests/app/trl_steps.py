"""Two steps of TRL's RewardTrainer and DPOTrainer on an export, with a tiny model: a process of its own.

python -m tests.app.trl_steps EXPORT-FOLDER SCRATCH-FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import wavalign.torchaudio_guard  # noqa: F401  (before anything imports transformers)

# isort: split
from datasets import Dataset, concatenate_datasets
from transformers import AutoConfig, AutoModelForSequenceClassification
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from tests.tiny import make_model, make_tokenizer

_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|> {{ m.content }} {% else %}<|assistant|> {{ m.content }} "
    "<|end_of_turn|> {% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


def main(export: Path, scratch: Path) -> None:
    torch.set_num_threads(1)
    rows = Dataset.from_parquet(str(next((export / "preference_text").glob("*.parquet"))), cache_dir=str(scratch))
    rows = concatenate_datasets([rows] * 2)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = _TEMPLATE
    policy = make_model(len(tokenizer))
    plain = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "bf16": False,
    }
    config = AutoConfig.for_model(**{**policy.config.to_dict(), "num_labels": 1})
    judge = AutoModelForSequenceClassification.from_config(config)
    for trainer in (
        RewardTrainer(
            model=judge,
            args=RewardConfig(output_dir=str(scratch / "reward"), max_length=64, **plain),
            train_dataset=rows,
            processing_class=tokenizer,
        ),
        DPOTrainer(
            model=policy,
            ref_model=make_model(len(tokenizer)),
            args=DPOConfig(output_dir=str(scratch / "dpo"), max_length=64, **plain),
            train_dataset=rows.remove_columns("margin"),
            processing_class=tokenizer,
        ),
    ):
        trainer.train()
        print(type(trainer).__name__, trainer.state.global_step)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
