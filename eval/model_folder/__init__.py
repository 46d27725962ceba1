"""A Hugging Face model folder: what it must hold, and what tells its content from any other's."""

from eval.model_folder.config import model_context, model_dtype
from eval.model_folder.digests import OnBytes, check_folder, folder_digest, folder_digests
from eval.model_folder.kept import FolderDigests
from eval.model_folder.weights import check_weights

__all__ = [
    "FolderDigests",
    "OnBytes",
    "check_folder",
    "check_weights",
    "folder_digest",
    "folder_digests",
    "model_context",
    "model_dtype",
]
