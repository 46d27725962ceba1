"""Evaluations by real engines in real processes, killed at ten points: every sample is as in an undisturbed one.

Compared are processes of one machine on one thread: which bits a processor chooses is its own matter. bfloat16
is what makes other companions show in the texts at once; with float32 they would about once in a million tokens.
"""

from __future__ import annotations

import hashlib
import json
import os
import string
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from eval.samples import FILE, read_samples

SCRIPT = Path(__file__).parent / "fakes" / "killed_evaluation.py"
SYMBOLS = [*string.ascii_lowercase, "<end>"]
QUESTIONS = 12
SAMPLES = 24 * QUESTIONS
AS_IT_IS = {"OMP_NUM_THREADS": "1"}
"""As a trial computes unless it asks for more cores. On two threads MKL gave two of fourteen processes other bits, on a
machine at load 5 (docs/reliability.md): no batch can mend what kernels do not repeat."""
NARROW = {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"}
"""As a machine of one core without wide vectors."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    vocabulary = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], eos_token="<end>", pad_token="<end>", unk_token="<end>")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(SYMBOLS),
        hidden_size=192,
        intermediate_size=400,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        eos_token_id=26,
        pad_token_id=26,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


class _Answers(BaseHTTPRequestHandler):
    """An endpoint whose completion is a matter of prompt and seed."""

    def do_GET(self) -> None:
        self._reply({"data": [{"id": "small"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = hashlib.sha256(f"{asked['prompt']} {asked['seed']}".encode()).hexdigest()
        self._reply({"choices": [{"text": text, "finish_reason": "stop"}]})

    def log_message(self, *args: object) -> None:
        pass

    def _reply(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prompts of two lengths: with 24 samples of each question, six batches."""
    dice = Random(1)
    lengths = [dice.randrange(3, 40) if n % 2 else dice.randrange(70, 200) for n in range(QUESTIONS)]
    rows = [{"question": "".join(dice.choices(string.ascii_lowercase, k=k)), "answer": "1"} for k in lengths]
    file = tmp_path_factory.mktemp("benchmark") / "letters.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def stored(folder: Path) -> dict[tuple[str, int], str]:
    samples = [sample.completion for sample in read_samples(folder / FILE)]
    assert (folder / FILE).read_bytes().count(b"\n") == len(samples) == SAMPLES, "none lost, none twice"
    return {(one.problem_id, one.index): one.text for one in samples}


@pytest.mark.parametrize(
    ("engine", "dtype", "mode"),
    [
        ("hf", "bfloat16", AS_IT_IS),
        pytest.param("hf", "bfloat16", NARROW, marks=pytest.mark.slow),
        pytest.param("openai", "float32", AS_IT_IS, marks=pytest.mark.slow),
        pytest.param("hf", "float32", AS_IT_IS, marks=pytest.mark.slow),
        pytest.param("hf", "float32", NARROW, marks=pytest.mark.slow),
        pytest.param("gang", "bfloat16", AS_IT_IS, marks=pytest.mark.slow),
        pytest.param("gang", "bfloat16", NARROW, marks=pytest.mark.slow),
    ],
)
def test_an_evaluation_killed_at_ten_points_ends_as_an_undisturbed_one(
    model: str, endpoint: str, benchmark: str, tmp_path: Path, engine: str, dtype: str, mode: dict[str, str]
) -> None:
    dice = Random(f"{engine} {dtype}")
    points = [dice.randrange(1, 2 * SAMPLES // 15) for _ in range(10)]
    asked = [engine, dtype, endpoint if engine == "openai" else model, benchmark, tmp_path, *points]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, asked)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **mode},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert stored(tmp_path / "killed" / "e") == stored(tmp_path / "undisturbed" / "e")
