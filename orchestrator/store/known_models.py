"""Which digest a runs folder knows a model by: that of all its bytes, or that of an earlier version.

Earlier versions read only parts of large files. Only models that a runs folder used before the digest covered every
byte stay under their former one, and each former digest stands for one content: the first that is found under it, kept
in runs/inputs/. Another model with the same sampled blocks goes by the digest of all its bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from eval.model_folder import FolderDigests
from orchestrator.plan.identity import base_trial_id
from orchestrator.store.inputs import SeenInput, SeenInputs
from orchestrator.store.store import Store
from trainers.models.resolve import model_digests
from trainers.recipe import Model

log = logging.getLogger(__name__)


def model_digest_of(
    store: Store, *, on_bytes: Callable[[str, int, int], None] = lambda path, done, total: None
) -> Callable[[Model], str]:
    """Return the function by which a plan identifies models: by the digest that the runs folder knows.

    Args:
        store: the runs folder.
        on_bytes: told a model's path and how far it was read, of folders that are read for the first time.
    """

    def digest(model: Model) -> str:
        digests = model_digests(model, on_bytes=lambda done, total: on_bytes(model.path, done, total))
        # Whatever trains or evaluates a model has its untrained trial in the plan, hence in the runs folder.
        return known_digest(
            digests,
            store,
            label=model.path,
            is_known=lambda one: store.trial_folder(base_trial_id(model, model_digest=one)).is_dir(),
        )

    return digest


def known_digest(digests: FolderDigests, store: Store, *, label: str, is_known: Callable[[str], bool]) -> str:
    """Return the digest under which a runs folder holds what was made of a model; of an unknown one, of all its bytes.

    Args:
        digests: of the model as it is now.
        store: the runs folder; keeps to which content a former digest was given.
        label: what a message calls the model.
        is_known: whether the runs folder holds anything under a digest.

    Raises:
        StoreError: the runs folder cannot be read or written.
    """
    if digests.digest == digests.former or is_known(digests.digest) or not is_known(digests.former):
        return digests.digest
    seen, name = SeenInputs(store.root), f"former-{digests.former[:24]}"
    claimed = seen.find(name)
    if claimed is None:
        seen.check(SeenInput(name=name, kind="model", digest=digests.digest), place=seen.file(name))
    elif claimed.digest != digests.digest:
        return digests.digest
    log.warning(
        "%s: found under the digest of an earlier version (%s…, which saw less of it); its ids and samples are gone on "
        "with, and orch eval --fresh draws anew",
        label,
        digests.former[:12],
    )
    return digests.former
